#include "panel.hpp"

#include <omp.h>

#include <algorithm>

#include "simd.hpp"

namespace hpctrain {

namespace {

// Vectors of a row that are summed in registers at once.
constexpr int group = 8;

// sums[0 .. group * lanes) += sum_i x_i V[i][same], over rows of V that are `width` apart.
template <class Real>
void sum_rows(const Real* V, int64_t width, const Real* x, int64_t rows, Real* sums) {
  using Vec = Vector<Real>;
  constexpr int L = lanes<Real>;
  Vec sum[group];
  for (int v = 0; v < group; ++v) sum[v] = load<Real>(sums + v * L);
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < group; ++v) sum[v] += x[i] * load<Real>(V + i * width + v * L);
  for (int v = 0; v < group; ++v) store<Real>(sums + v * L, sum[v]);
}

template <class Real>
Real row_product(const Real* row, const Real* c, int64_t width) {
  using Vec = Vector<Real>;
  constexpr int L = lanes<Real>;
  Vec sum[4] = {};
  int64_t j = 0;
  for (; j + 4 * L <= width; j += 4 * L)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v)
      sum[v] += load<Real>(row + j + v * L) * load<Real>(c + j + v * L);
  Real total = sum_lanes<Real>((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; j < width; ++j) total += row[j] * c[j];
  return total;
}

// A strip of columns of H, kept in cache while the products of all rows go over it.
constexpr int64_t strip = 256;
constexpr int tile_rows = 4;

// H[0 .. Rows)[0 .. columns) += left right, columns <= strip.
template <class Real, int Rows>
void add_tile(Real* H, int64_t pitch, const Real* left, int64_t width, const Real* right,
              int64_t columns) {
  using Vec = Vector<Real>;
  constexpr int L = lanes<Real>;
  int64_t j = 0;
  for (; j + 2 * L <= columns; j += 2 * L) {
    Vec sum[Rows][2];
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < 2; ++v) sum[r][v] = load<Real>(H + r * pitch + j + v * L);
    for (int64_t k = 0; k < width; ++k) {
      const Vec b0 = load<Real>(right + k * pitch + j), b1 = load<Real>(right + k * pitch + j + L);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        sum[r][0] += left[r * width + k] * b0;
        sum[r][1] += left[r * width + k] * b1;
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < 2; ++v) store<Real>(H + r * pitch + j + v * L, sum[r][v]);
  }
  for (; j < columns; ++j)
    for (int r = 0; r < Rows; ++r) {
      Real total = H[r * pitch + j];
      for (int64_t k = 0; k < width; ++k) total += left[r * width + k] * right[k * pitch + j];
      H[r * pitch + j] = total;
    }
}

}  // namespace

template <class Real>
void panel_transposed_product(const Real* V, int64_t width, const Real* x, const int64_t* bounds,
                              int64_t parts, Real* sums, int threads) {
  constexpr int64_t columns = group * lanes<Real>;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = bounds[part], rows = bounds[part + 1] - first;
    Real* to = sums + part * width;
    int64_t j = 0;
    for (; j + columns <= width; j += columns)
      sum_rows(V + first * width + j, width, x + first, rows, to + j);
    for (int64_t i = first; i < first + rows; ++i)
      for (int64_t k = j; k < width; ++k) to[k] += x[i] * V[i * width + k];
  }
}

template <class Real>
void panel_product(const Real* V, int64_t rows, int64_t width, const Real* c, Real* y,
                   int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) y[i] += row_product(V + i * width, c, width);
}

template <class Real>
void add_outer_products(Real* H, int64_t rows, int64_t columns, const Real* left, int64_t width,
                        const Real* right, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t block = 0; block < (rows + tile_rows - 1) / tile_rows; ++block)
    for (int64_t start = 0; start < columns; start += strip) {
      const int64_t i = block * tile_rows, count = std::min(strip, columns - start);
      Real* to = H + i * columns + start;
      if (i + tile_rows <= rows) {
        add_tile<Real, tile_rows>(to, columns, left + i * width, width, right + start, count);
        continue;
      }
      for (int64_t k = i; k < rows; ++k, to += columns)
        add_tile<Real, 1>(to, columns, left + k * width, width, right + start, count);
    }
}

#define INSTANTIATE(Real)                                                                        \
  template void panel_transposed_product<Real>(const Real*, int64_t, const Real*, const int64_t*, \
                                               int64_t, Real*, int);                             \
  template void panel_product<Real>(const Real*, int64_t, int64_t, const Real*, Real*, int);     \
  template void add_outer_products<Real>(Real*, int64_t, int64_t, const Real*, int64_t,          \
                                         const Real*, int);
INSTANTIATE(double)
INSTANTIATE(float)

}  // namespace hpctrain
