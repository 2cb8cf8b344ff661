// Sweeps over the dense inverse Hessian of quasi-Newton methods, held by rows.
#pragma once

#include <cstdint>

namespace hpctrain {

// In one pass over the rows: H <- scale H + left right, then product = H x.
// H is (rows, columns) row-major, left (rows, 2), right (2, columns). Without left and right H is
// only read. Each row is summed the same way whichever rank, thread or row block holds it.
template <class Real>
void update_and_multiply(Real* H, int64_t rows, int64_t columns, Real scale, const Real* left,
                         const Real* right, const Real* x, Real* product, int threads);

}  // namespace hpctrain
