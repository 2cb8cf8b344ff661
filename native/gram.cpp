#include "gram.hpp"

#include <omp.h>

#include <algorithm>
#include <vector>

#include "simd.hpp"

namespace hpctrain {

namespace {

// A register tile of C has tile_rows x (tile_vectors vectors); packed rows of J are taken depth at a
// time, so that the panels of a tile stay in cache (the blocking of Goto and van de Geijn, 2008).
constexpr int tile_rows = gram_tile_rows, tile_vectors = 3;
constexpr int64_t depth = 420;

template <class Real> constexpr int tile_columns = tile_vectors * lanes<Real>;

// Panels of `width` columns of J, [panel][row][width], the last one filled up with zeros.
template <class Real>
void pack(const Real* J, int64_t rows, int64_t stride, int64_t n, int width, Real* packed,
          int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t panel = 0; panel < (n + width - 1) / width; ++panel) {
    const int64_t start = panel * width, count = std::min<int64_t>(width, n - start);
    Real* to = packed + panel * rows * width;
    for (int64_t k = 0; k < rows; ++k, to += width) {
      std::copy_n(J + k * stride + start, count, to);
      std::fill(to + count, to + width, Real(0));
    }
  }
}

// A register tile: C[i][j] += sum_k a[k][i] b[k][j], of which rows x columns lie inside C.
template <class Real>
void update_tile(const Real* a, const Real* b, int64_t k_count, Real* C, int64_t stride,
                 int64_t rows, int64_t columns) {
  using V = Vector<Real>;
  constexpr int L = lanes<Real>;
  V sum[tile_rows][tile_vectors] = {};
  for (int64_t k = 0; k < k_count; ++k, a += tile_rows, b += tile_columns<Real>) {
    V x[tile_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) x[v] = load<Real>(b + v * L);
#pragma GCC unroll 8
    for (int r = 0; r < tile_rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) sum[r][v] += a[r] * x[v];
  }
  if (rows == tile_rows && columns == tile_columns<Real>) {
    for (int r = 0; r < tile_rows; ++r)
      for (int v = 0; v < tile_vectors; ++v) {
        Real* to = C + r * stride + v * L;
        store<Real>(to, load<Real>(to) + sum[r][v]);
      }
    return;
  }
  Real part[tile_rows * tile_columns<Real>];
  std::memcpy(part, sum, sizeof(part));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < columns; ++j) C[r * stride + j] += part[r * tile_columns<Real> + j];
}

}  // namespace

template <class Real>
void accumulate_gram(const Real* J, int64_t count, int64_t stride, int64_t n,
                     const BlockRows<Real>& C, int threads) {
  constexpr int width = tile_columns<Real>;
  const int64_t row_panels = (n + tile_rows - 1) / tile_rows, panels = (n + width - 1) / width;
  std::vector<Real> left(row_panels * tile_rows * depth), right(panels * width * depth);
  for (int64_t k = 0; k < count; k += depth) {
    const int64_t rows = std::min(depth, count - k);
    pack(J + k * stride, rows, stride, n, tile_rows, left.data(), threads);
    pack(J + k * stride, rows, stride, n, width, right.data(), threads);
    const int64_t blocks = (n + C.height - 1) / C.height;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t block = blocks - 1; block >= 0; --block) {  // the longest rows first
      const int64_t first = block * C.height, last = std::min(n, first + C.height);
      Real* const own = C.numbers + C.places[block];
      for (int64_t j = 0; j < last; j += width)
        for (int64_t i = first; i < last; i += tile_rows)
          if (j <= i + tile_rows - 1)
            update_tile(left.data() + i * rows, right.data() + j * rows, rows,
                        own + (i - first) * C.strides[block] + j, C.strides[block],
                        std::min<int64_t>(tile_rows, last - i),
                        std::min<int64_t>(width, last - j));
    }
  }
}

template void accumulate_gram<double>(const double*, int64_t, int64_t, int64_t,
                                      const BlockRows<double>&, int);
template void accumulate_gram<float>(const float*, int64_t, int64_t, int64_t,
                                     const BlockRows<float>&, int);

}  // namespace hpctrain
