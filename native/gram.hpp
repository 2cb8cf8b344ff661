// Gram matrices of Jacobian rows, summed along a tree over parts of the rows.
#pragma once

#include <cstdint>
#include <vector>

namespace hpctrain {

// The lower triangle of a matrix C (n, n) in block rows of `height` rows: row i of block row b begins
// at numbers[places[b] + (i - b height) strides[b]].
template <class Real> struct BlockRows {
  Real* numbers;
  const int64_t *places, *strides;
  int64_t height;
};

// `count` rows of J, `stride` apart.
template <class Real> struct RowsOfJ {
  const Real* first;
  int64_t count, stride;
};

// C += J^T J in the lower triangle of C (n, n). J is in 2^k parts of one or several runs of rows. The
// products of a part are summed in the order of its rows, and the parts along the complete binary tree
// over them: neighbours first. Above the diagonal C is undefined within the blocks on it, and not
// touched outside of them. The bits are the same for any number of threads.
template <class Real>
void add_gram_sums(const std::vector<std::vector<RowsOfJ<Real>>>& parts, int64_t n,
                   const BlockRows<Real>& C, int threads);

}  // namespace hpctrain
