// Gram matrices of Jacobian rows, accumulated block after block.
#pragma once

#include <cstdint>

namespace hpctrain {

// Block rows are of a multiple of so many rows.
#if defined(__AVX512F__)
constexpr int gram_tile_rows = 8;
#else
constexpr int gram_tile_rows = 4;
#endif

// The lower triangle of a matrix C (n, n) in block rows of `height` rows: row i of block row b begins
// at numbers[places[b] + (i - b height) strides[b]].
template <class Real> struct BlockRows {
  Real* numbers;
  const int64_t *places, *strides;
  int64_t height;
};

// C += J^T J in the lower triangle of C (n, n), for rows J (count, n), `stride` apart. Above the
// diagonal C is undefined within the blocks on it, and not touched outside of them. Each entry is
// summed over the rows in the same order for any number of threads.
template <class Real>
void accumulate_gram(const Real* J, int64_t count, int64_t stride, int64_t n,
                     const BlockRows<Real>& C, int threads);

}  // namespace hpctrain
