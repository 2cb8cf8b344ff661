// Products with tall, narrow matrices, the panels of a factored inverse Hessian.
#pragma once

#include <cstdint>

namespace hpctrain {

// sums[p] += sum of x_i V[i] over the rows bounds[p] <= i < bounds[p + 1], for V (rows, width)
// row-major and sums (parts, width). Each part is summed in the order of its rows.
template <class Real>
void panel_transposed_product(const Real* V, int64_t width, const Real* x, const int64_t* bounds,
                              int64_t parts, Real* sums, int threads);

// y += V c, each row summed the same way whichever rank or thread has it.
template <class Real>
void panel_product(const Real* V, int64_t rows, int64_t width, const Real* c, Real* y, int threads);

// H += left right, for H (rows, columns), left (rows, width), right (width, columns); each row of H
// is summed the same way whichever rank or thread has it.
template <class Real>
void add_outer_products(Real* H, int64_t rows, int64_t columns, const Real* left, int64_t width,
                        const Real* right, int threads);

}  // namespace hpctrain
