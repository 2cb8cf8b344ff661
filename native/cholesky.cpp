#include "cholesky.hpp"

#include <omp.h>

#include <cmath>
#include <limits>

#include "memory.hpp"

namespace hpctrain {

namespace {

// Columns of L that are multiplied at a time: a panel of them stays in the first cache.
constexpr int64_t depth = 96;
// Bytes from which memory is new in every call: less is kept for the next one with its pages.
constexpr size_t new_memory = size_t(1) << 24;

template <class Real> inline ProductTile<Real> load_tile(const Real* from) {
  ProductTile<Real> tile;
  std::memcpy(&tile, from, sizeof(tile));
  return tile;
}

template <class Real> inline void store_tile(Real* to, const ProductTile<Real>& tile) {
  std::memcpy(to, &tile, sizeof(tile));
}

// S - sum_k a[k][c] b[k], for a tile S of columns c, of which each is contiguous.
template <class Real>
inline ProductTile<Real> subtract_products(const Real* S, const Real* a, const Real* b,
                                           int64_t count, const Real* ahead, int64_t step) {
  ProductTile<Real> sum = {}, tile = load_tile<Real>(S);
  add_products<Real>(a, b, count, reinterpret_cast<const char*>(ahead), step, sum);
#pragma GCC unroll 8
  for (int c = 0; c < product_rows; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < product_vectors<Real>; ++v) tile.rows[c][v] -= sum.rows[c][v];
  return tile;
}

// X of X T^T = S, T (c, k) = T[k width + c] the lower triangle of a tile, and 1 / T (c, c).
template <class Real>
inline void divide_by_triangle(const Real* T, const Real* inverse, ProductTile<Real>& S) {
#pragma GCC unroll 8
  for (int c = 0; c < product_rows; ++c) {
#pragma GCC unroll 4
    for (int v = 0; v < product_vectors<Real>; ++v) S.rows[c][v] *= inverse[c];
#pragma GCC unroll 8
    for (int d = c + 1; d < product_rows; ++d)
#pragma GCC unroll 4
      for (int v = 0; v < product_vectors<Real>; ++v)
        S.rows[d][v] -= T[c * panel_width<Real> + d] * S.rows[c][v];
  }
}

// The Cholesky factor of a tile on the diagonal, whose columns begin at S, and the rows below it.
// Its first row is number `place` of the panel. False where it is not positive definite.
template <class Real> bool factor_tile(Real* S, int64_t place, Real* inverse) {
  constexpr int width = panel_width<Real>;
  for (int c = 0; c < product_rows; ++c) {
    Real* column = S + c * width;
    const Real pivot = column[place + c];
    if (!(pivot > 0)) return false;
    inverse[c] = 1 / std::sqrt(pivot);
    for (int r = 0; r < width; ++r) column[r] = r < place + c ? 0 : column[r] * inverse[c];
    column[place + c] = std::sqrt(pivot);
    for (int d = c + 1; d < product_rows; ++d) {
      const Real factor = column[place + d];
      for (int r = 0; r < width; ++r) S[d * width + r] -= factor * column[r];
    }
  }
  return true;
}

// S_ip -= L_ij L_pj^T for the block (i, j) of a row and the panel p of its corner, where j's columns
// are first … last - 1.
template <class Real>
void subtract_square(const FactorRow<Real>& L, int64_t p, int64_t first, int64_t last) {
  constexpr int width = panel_width<Real>;
    for (int64_t c = 0; c < (p + 1) * width; c += product_rows) {
    Real* S = L.find(p, L.corner() + c);
    store_tile(S, subtract_products<Real>(S, L.find(c / width, first) + c % width,
                                          L.find(p, first), last - first, S, 0));
  }
}

}  // namespace

template <class Real>
FactorRows<Real>::FactorRows(const Real* A, const std::vector<int64_t>& own, int64_t n,
                             int64_t height, Real shift, Real* L, int threads)
    : n_(n), height_(height), threads_(threads) {
  constexpr int width = panel_width<Real>;
  int64_t numbers = 0;
  for (const int64_t i : own) numbers += FactorRow<Real>::size(i, height);
  if (numbers * sizeof(Real) >= new_memory) prefer_large_pages(L, numbers * sizeof(Real));
  for (const int64_t i : own) {
    const Row& row = rows_.emplace_back(Row{A, {L, i, n, height}});
    row.L.last() = 1;
    for (int64_t p = 0; p < row.L.panels(); ++p) {
      pack(row, p, row.L.corner());
      for (int64_t r = 0; r < width; ++r)
        row.L.find(p, row.L.corner() + p * width + r)[r] += shift;
    }
    A += row.L.rows * std::min(n, row.L.columns);
    L += FactorRow<Real>::size(i, height);
  }
}

// Copies a panel's numbers of A in the `height` columns from `first` on.
template <class Real>
void FactorRows<Real>::pack(const Row& row, int64_t p, int64_t first) const {
  constexpr int width = panel_width<Real>;
  const int64_t stride = std::min(n_, row.L.columns), last = std::min(first + height_, n_);
  const int64_t rows = std::min<int64_t>(width, row.L.rows - p * width);
  const Real* from = row.A + p * width * stride;
  Real* to = row.L.find(p, first);
  if (rows == width && last == first + height_) {
    constexpr int piece = lanes<Real>;
    for (int64_t k = first; k < last; k += piece, to += piece * width)
      for (int64_t r = 0; r < width; ++r)
#pragma GCC unroll 16
        for (int l = 0; l < piece; ++l) to[l * width + r] = from[r * stride + k + l];
    return;
  }
  for (int64_t k = first; k < first + height_; ++k, to += width)
    for (int64_t r = 0; r < width; ++r)
      to[r] = r < rows && k < last ? from[r * stride + k]
                                   : Real(k == row.L.corner() + p * width + r);
}

template <class Real>
void FactorRows<Real>::eliminate(const Real* known, int64_t j, int64_t first, int64_t last) const {
  constexpr int width = panel_width<Real>;
  const FactorRow<const Real> above(known, j, n_, height_);
  const int64_t begin = j * height_, panels = height_ / width;
  std::vector<Real> inverse(height_);
  for (int64_t c = 0; c < height_; ++c)
    inverse[c] = 1 / above.find(c / width, begin + c)[c % width];
  std::vector<const Row*> rows;
  for (const Row& row : rows_)
    if (first <= row.L.i && row.L.i < last) rows.push_back(&row);
  // A thread has whole block rows, whose panels share the products' other factor, or single panels.
  const int64_t together = int64_t(rows.size()) >= 4 * threads_ || threads_ == 1 ? panels : 1;
  const int64_t tasks = int64_t(rows.size()) * panels;
#pragma omp parallel num_threads(threads_)
  {
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; task += together) {
      const Row& row = *rows[task / panels];
      const int64_t start = task % panels, end = std::min(start + together, row.L.panels());
      for (int64_t p = start; p < end; ++p) pack(row, p, begin);
      for (int64_t k = 0; k < begin; k += depth) {
        const int64_t count = std::min(depth, begin - k);
        for (int64_t p = start; p < end; ++p) {
          const Real* ahead = p + 1 < end ? row.L.find(p + 1, k) : row.L.find(start, k + count);
          const int64_t step = width * product_rows * int64_t(sizeof(Real)) / height_;
          for (int64_t c = 0; c < height_; c += product_rows) {
            Real* S = row.L.find(p, begin + c);
            store_tile(S, subtract_products<Real>(S, above.find(c / width, k) + c % width,
                                                  row.L.find(p, k), count,
                                                  ahead + c * count * width / height_, step));
          }
        }
      }
      for (int64_t p = start; p < end; ++p)
        for (int64_t c = 0; c < height_; c += product_rows) {
          Real* S = row.L.find(p, begin + c);
          const Real* a = above.find(c / width, begin) + c % width;
          ProductTile<Real> X =
              subtract_products<Real>(S, a, row.L.find(p, begin), c, S, 0);
          divide_by_triangle(a + c * width, &inverse[c], X);
          store_tile(S, X);
        }
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) {
      const FactorRow<Real>& L = rows[task / panels]->L;
      if (task % panels < L.panels()) subtract_square(L, task % panels, begin, begin + height_);
    }
  }
}

template <class Real>
const typename FactorRows<Real>::Row* FactorRows<Real>::find(int64_t i) const {
  for (const Row& row : rows_)
    if (row.L.i == i) return &row;
  return nullptr;
}

template <class Real> void FactorRows<Real>::factor_corner(int64_t i) const {
  constexpr int width = panel_width<Real>;
  const FactorRow<Real>& L = find(i)->L;
  const int64_t corner = L.corner();
  std::vector<Real> inverse(height_);
  for (int64_t p = 0; p < L.panels(); ++p)
    for (int64_t c = 0; c < (p + 1) * width; c += product_rows) {
      Real* S = L.find(p, corner + c);
      const Real* a = L.find(c / width, corner) + c % width;
      ProductTile<Real> X = subtract_products<Real>(S, a, L.find(p, corner), c, S, 0);
      if (c < p * width) divide_by_triangle(a + c * width, &inverse[c], X);
      store_tile(S, X);
      if (c >= p * width && !factor_tile(S, c - p * width, &inverse[c])) {
        L.last() = std::numeric_limits<Real>::quiet_NaN();
        return;
      }
    }
}

namespace {

// y -= sum_k x_k L[k] over the first `count` columns of a panel.
template <class Real>
void subtract_columns(const Real* panel, const Real* x, int64_t count, Real* y) {
  constexpr int L = lanes<Real>, vectors = product_vectors<Real>;
  Vector<Real> sum[vectors];
  for (int v = 0; v < vectors; ++v) sum[v] = load<Real>(y + v * L);
  for (int64_t k = 0; k < count; ++k, panel += vectors * L)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[v] -= x[k] * load<Real>(panel + v * L);
  for (int v = 0; v < vectors; ++v) store<Real>(y + v * L, sum[v]);
}

// The products of a panel's column with x (width,), to be added lane by lane.
template <class Real> inline Vector<Real> multiply_column(const Real* column, const Real* x) {
  constexpr int L = lanes<Real>;
  Vector<Real> sum = load<Real>(column) * load<Real>(x);
#pragma GCC unroll 4
  for (int v = 1; v < product_vectors<Real>; ++v)
    sum += load<Real>(column + v * L) * load<Real>(x + v * L);
  return sum;
}

// y_k -= L[k]^T x over the first `count` columns of a panel.
template <class Real>
void subtract_products_of_columns(const Real* panel, const Real* x, int64_t count, Real* y) {
  constexpr int L = lanes<Real>, width = panel_width<Real>;
  for (int64_t k = 0; k < count; k += L, panel += L * width) {
    Vector<Real> sums[L];
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) sums[l] = multiply_column(panel + l * width, x);
    store<Real>(y + k, load<Real>(y + k) - sum_each<Real>(sums));
  }
}

}  // namespace

template <class Real>
void solve_cholesky(const std::vector<const Real*>& rows, int64_t n, int64_t height, Real* x) {
  constexpr int width = panel_width<Real>;
  const int64_t count = int64_t(rows.size());
  std::vector<Real> y(count * height);
  std::copy_n(x, n, y.begin());
  for (int64_t i = 0; i < count; ++i) {
    const FactorRow<const Real> L(rows[i], i, n, height);
    for (int64_t p = 0; p < L.panels(); ++p) {
      const int64_t before = i * height + p * width;
      subtract_columns(L.find(p, 0), y.data(), before, &y[before]);
      for (int64_t r = 0; r < width; ++r) {
        const Real* column = L.find(p, before + r);
        const Real found = y[before + r] / column[r];
        subtract_columns(column, &found, 1, &y[before]);
        y[before + r] = found;
      }
    }
  }
  for (int64_t i = count - 1; i >= 0; --i) {
    const FactorRow<const Real> L(rows[i], i, n, height);
    for (int64_t p = L.panels() - 1; p >= 0; --p) {
      const int64_t before = i * height + p * width;
      Real found[width] = {};
      for (int64_t r = width - 1; r >= 0; --r) {
        const Real* column = L.find(p, before + r);
        const Real known = sum_lanes<Real>(multiply_column(column, found));
        found[r] = (y[before + r] - known) / column[r];
      }
      std::copy_n(found, width, &y[before]);
      subtract_products_of_columns(L.find(p, 0), found, before, y.data());
    }
  }
  std::copy_n(y.begin(), n, x);
}

#define INSTANTIATE(Real)         \
  template class FactorRows<Real>; \
  template void solve_cholesky<Real>(const std::vector<const Real*>&, int64_t, int64_t, Real*);
INSTANTIATE(double)
INSTANTIATE(float)

}  // namespace hpctrain
