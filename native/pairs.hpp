// Products with secant pairs, vectors in either precision that lie apart, summed in double precision.
#pragma once

#include <cstdint>
#include <vector>

namespace hpctrain {

// products[r] = (rows[r]^T x, rows[r]^T y), for vectors of length n.
template <class Real>
void pair_products(const std::vector<const Real*>& rows, const Real* x, const Real* y, int64_t n,
                   double* products);

// out (count, n) = weights (count, pairs) times the rows Y[r] - gamma S[r].
template <class Real>
void pair_combination(const std::vector<const Real*>& S, const std::vector<const Real*>& Y,
                      double gamma, const double* weights, int64_t count, int64_t n, Real* out);

}  // namespace hpctrain
