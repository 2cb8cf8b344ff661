// Gram matrices of Jacobian rows, accumulated block after block.
#pragma once

#include <cstdint>

namespace hpctrain {

// C += J^T J in the lower triangle of C (n, n), for rows J (count, n) row-major. Above the diagonal C
// is undefined. Each entry is summed over the rows in the same order for any number of threads.
template <class Real>
void accumulate_gram(const Real* J, int64_t count, int64_t n, Real* C, int threads);

}  // namespace hpctrain
