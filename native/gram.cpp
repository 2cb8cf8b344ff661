#include "gram.hpp"

#include <omp.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "simd.hpp"

namespace hpctrain {

namespace {

// A register tile of C has tile_rows x (tile_vectors vectors); packed rows of J are taken depth at a
// time, so that the panels of a tile stay in cache (the blocking of Goto and van de Geijn, 2008). A
// tile's rows lie within one panel of its columns.
constexpr int tile_rows = gram_tile_rows;
constexpr int64_t depth = 420;

template <class Real> constexpr int tile_vectors = lanes<Real> < tile_rows ? 4 : 3;
template <class Real> constexpr int tile_columns = tile_vectors<Real> * lanes<Real>;

template <class Real> struct Tile {
  Vector<Real> rows[tile_rows][tile_vectors<Real>];

  void operator+=(const Tile& other) {
    for (int r = 0; r < tile_rows; ++r)
      for (int v = 0; v < tile_vectors<Real>; ++v) rows[r][v] += other.rows[r][v];
  }
};

// Columns start … start + tile_columns - 1 of all rows of J, filled up with zeros beyond n.
template <class Real>
void pack(const std::vector<std::vector<RowsOfJ<Real>>>& parts, int64_t start, int64_t n,
          Real* panel) {
  constexpr int width = tile_columns<Real>;
  const int64_t count = std::min<int64_t>(width, n - start);
  for (const auto& part : parts)
    for (const auto& run : part)
      for (int64_t k = 0; k < run.count; ++k, panel += width) {
        std::copy_n(run.first + k * run.stride + start, count, panel);
        std::fill(panel + count, panel + width, Real(0));
      }
}

// sum_k a[k][i] b[k][j] over rows of two panels.
template <class Real> Tile<Real> multiply(const Real* a, const Real* b, int64_t count) {
  constexpr int L = lanes<Real>, width = tile_columns<Real>;
  Tile<Real> sum = {};
  for (int64_t k = 0; k < count; ++k, a += width, b += width) {
    Vector<Real> x[tile_vectors<Real>];
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors<Real>; ++v) x[v] = load<Real>(b + v * L);
#pragma GCC unroll 8
    for (int r = 0; r < tile_rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors<Real>; ++v) sum.rows[r][v] += a[r] * x[v];
  }
  return sum;
}

// C[i][j] += sum[i][j], of which rows x columns lie inside C.
template <class Real>
void add_tile(const Tile<Real>& sum, Real* C, int64_t stride, int64_t rows, int64_t columns) {
  constexpr int L = lanes<Real>;
  if (rows == tile_rows && columns == tile_columns<Real>) {
    for (int r = 0; r < tile_rows; ++r)
      for (int v = 0; v < tile_vectors<Real>; ++v) {
        Real* to = C + r * stride + v * L;
        store<Real>(to, load<Real>(to) + sum.rows[r][v]);
      }
    return;
  }
  Real numbers[tile_rows * tile_columns<Real>];
  std::memcpy(numbers, sum.rows, sizeof(numbers));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < columns; ++j) C[r * stride + j] += numbers[r * tile_columns<Real> + j];
}

// Adds the parts of J^T J in rows first … last - 1 and the columns of one panel, j and after.
template <class Real>
void add_panel(const Real* packed, const std::vector<int64_t>& bounds, int64_t first, int64_t last,
               int64_t j, int64_t n, Real* own, int64_t stride, std::vector<Tile<Real>>& stack) {
  constexpr int width = tile_columns<Real>;
  const int64_t total = bounds.back(), parts = int64_t(bounds.size()) - 1;
  // The tiles above it are above the diagonal.
  const int64_t top = first + std::max<int64_t>(0, j - first) / tile_rows * tile_rows;
  const int64_t tiles = (last - top + tile_rows - 1) / tile_rows;
  stack.clear();
  for (int64_t part = 0; part < parts; ++part) {
    stack.resize(stack.size() + tiles, Tile<Real>{});
    for (int64_t k = bounds[part]; k < bounds[part + 1]; k += depth) {
      const int64_t count = std::min(depth, bounds[part + 1] - k);
      const Real* b = packed + j * total + k * width;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t i = top + t * tile_rows, within = i % width;
        const Real* a = packed + (i - within) * total + k * width + within;
        stack[stack.size() - tiles + t] += multiply<Real>(a, b, count);
      }
    }
    for (int64_t pairs = part; pairs & 1; pairs >>= 1) {
      const int64_t right = int64_t(stack.size()) - tiles;
      for (int64_t t = 0; t < tiles; ++t) stack[right - tiles + t] += stack[right + t];
      stack.resize(right);
    }
  }
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t i = top + t * tile_rows;
    add_tile<Real>(stack[t], own + (i - first) * stride + j, stride,
                   std::min<int64_t>(tile_rows, last - i), std::min<int64_t>(width, last - j));
  }
}

}  // namespace

template <class Real>
void add_gram_sums(const std::vector<std::vector<RowsOfJ<Real>>>& parts, int64_t n,
                   const BlockRows<Real>& C, int threads) {
  constexpr int width = tile_columns<Real>;
  std::vector<int64_t> bounds = {0};
  for (const auto& part : parts) {
    bounds.push_back(bounds.back());
    for (const auto& run : part) bounds.back() += run.count;
  }
  const int64_t total = bounds.back(), panels = (n + width - 1) / width;
  const std::unique_ptr<Real[]> packed(new Real[panels * width * total]);
  const int64_t blocks = (n + C.height - 1) / C.height;
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t panel = 0; panel < panels; ++panel)
      pack<Real>(parts, panel * width, n, packed.get() + panel * width * total);
    std::vector<Tile<Real>> stack;
#pragma omp for schedule(dynamic, 1)
    for (int64_t block = blocks - 1; block >= 0; --block) {  // the longest rows first
      const int64_t first = block * C.height, last = std::min(n, first + C.height);
      for (int64_t j = 0; j < last; j += width)
        add_panel<Real>(packed.get(), bounds, first, last, j, n, C.numbers + C.places[block],
                        C.strides[block], stack);
    }
  }
}

template void add_gram_sums<double>(const std::vector<std::vector<RowsOfJ<double>>>&, int64_t,
                                    const BlockRows<double>&, int);
template void add_gram_sums<float>(const std::vector<std::vector<RowsOfJ<float>>>&, int64_t,
                                   const BlockRows<float>&, int);

}  // namespace hpctrain
