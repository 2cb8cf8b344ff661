// Cholesky factors of symmetric matrices in block rows, and solutions with them.
#pragma once

#include <cstdint>
#include <vector>

#include "products.hpp"

namespace hpctrain {

// Block row i of L, which has `height` rows, the last ones perhaps beyond the n of L. It is held as it
// is multiplied: in panels of `panel_width` rows, each of them one column after the other, so that
// L[i height + p width + r][k] is numbers[(p columns + k) width + r], columns = (i + 1) height. Rows
// beyond n are those of the identity; panels of such rows alone are undefined.
template <class Real> struct FactorRow {
  Real* numbers;
  int64_t i, height, rows, columns;

  FactorRow(Real* numbers, int64_t i, int64_t n, int64_t height)
      : numbers(numbers),
        i(i),
        height(height),
        rows(n - i * height < height ? n - i * height : height),
        columns((i + 1) * height) {}

  static int64_t size(int64_t i, int64_t height) { return height * (i + 1) * height; }

  int64_t corner() const { return i * height; }  // the first column of the block on the diagonal

  int64_t panels() const { return (rows + panel_width<Real> - 1) / panel_width<Real>; }

  // The numbers of panel p from column k on.
  Real* find(int64_t p, int64_t k) const {
    return numbers + (p * columns + k) * panel_width<Real>;
  }

  // The last number, NaN where the block row could not be computed.
  Real& last() const { return numbers[size(i, height) - 1]; }
};

// Some block rows of L, with A + shift I = L L^T, while they are computed.
template <class Real> class FactorRows {
 public:
  // Those with the numbers i in `own`, in ascending order, of A (n, n): A has them row-major and
  // without what lies beyond the block on the diagonal, L as `FactorRow`, one after the other.
  FactorRows(const Real* A, const std::vector<int64_t>& own, int64_t n, int64_t height, Real shift,
             Real* L, int threads);

  int64_t height() const { return height_; }

  bool holds(int64_t i) const { return find(i) != nullptr; }

  // Computes L_ij for the rows i with first <= i < last, of L_jj and all of row j in `known`, and
  // subtracts L_ij L_ij^T from what L_ii is made of. Rows take the blocks j = 0, 1, … i - 1.
  void eliminate(const Real* known, int64_t j, int64_t first, int64_t last) const;

  // Computes L_ii of row i; its last number is NaN where this is not possible.
  void factor_corner(int64_t i) const;

 private:
  struct Row {
    const Real* A;
    FactorRow<Real> L;
  };

  const Row* find(int64_t i) const;
  void pack(const Row& row, int64_t p, int64_t first) const;

  std::vector<Row> rows_;
  int64_t n_, height_;
  int threads_;
};

// x <- (L L^T)^-1 x for all block rows of L.
template <class Real>
void solve_cholesky(const std::vector<const Real*>& rows, int64_t n, int64_t height, Real* x);

}  // namespace hpctrain
