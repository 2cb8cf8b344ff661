#include "gram.hpp"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "memory.hpp"
#include "products.hpp"

namespace hpctrain {

namespace {

// Rows of J are taken `depth` at a time by the tiles of a block row; all rows of a block row's own
// panels stay in the second cache.
constexpr int64_t depth = 160, packed_at_a_time = 16;

// Memory for `count` numbers, in large pages where the system has them: it is new in every call.
template <class Real> std::unique_ptr<Real, decltype(&std::free)> allocate(int64_t count) {
  const size_t whole = count * sizeof(Real) / large_page * large_page + large_page;
  void* memory = std::aligned_alloc(large_page, whole);
  if (memory == nullptr) throw std::bad_alloc();
  prefer_large_pages(memory, whole);
  return {static_cast<Real*>(memory), &std::free};
}

// Packed rows of J: those of one panel of columns follow each other, filled up with zeros beyond n.
template <class Real> class Panels {
 public:
  static constexpr int width = panel_width<Real>;

  Panels(std::vector<const Real*> rows, int64_t n)
      : rows_(std::move(rows)),
        n_(n),
        packed_(allocate<Real>((n + width - 1) / width * width * rows_.size())) {}

  int64_t count() const { return int64_t(rows_.size()); }

  // Element (k, j) of J; those at (k, j + 1) … and (k + 1, j) … are 1 and `width` further.
  const Real* find(int64_t k, int64_t j) const {
    const int64_t within = j % width;
    return packed_.get() + (j - within) * count() + k * width + within;
  }

  // Packs rows first … last - 1, few of them at a time: they are read in pieces, on other pages each.
  void pack(int64_t first, int64_t last) {
    for (int64_t j = 0; j < n_; j += width) {
      const int64_t columns = std::min<int64_t>(width, n_ - j);
      Real* to = packed_.get() + j * count() + first * width;
      for (int64_t k = first; k < last; ++k, to += width) {
        std::copy_n(rows_[k] + j, columns, to);
        std::fill(to + columns, to + width, Real(0));
      }
    }
  }

 private:
  std::vector<const Real*> rows_;
  int64_t n_;
  std::unique_ptr<Real, decltype(&std::free)> packed_;
};

// Packed rows first … first + count - 1 of one part, perhaps its first or its last ones.
struct Slice {
  size_t part;
  int64_t first, count;
  bool begins, ends;
};

// Adds slices to the sums of a tile at (i, j): those of the largest complete subtrees of the parts so
// far, from left to right, and that of the part to which the next slice belongs.
template <class Real>
void push_slices(const Panels<Real>& J, const Slice* slices, const Slice* end, int64_t i, int64_t j,
                 const char* ahead, int64_t step, ProductTile<Real>* sums) {
  for (const Slice* slice = slices; slice < end; ++slice) {
    ProductTile<Real>* top = sums + __builtin_popcountll(slice->part);
    ProductTile<Real> sum = {};
    if (!slice->begins) sum = *top;
    add_products<Real>(J.find(slice->first, i), J.find(slice->first, j), slice->count, ahead, step,
                       sum);
    ahead += slice->count * step;
    if (slice->ends)
      for (size_t pairs = slice->part; pairs & 1; pairs >>= 1) sum += *--top;
    *top = sum;
  }
}

// C[i][j] += sum[i][j], of which rows x columns lie inside C.
template <class Real>
void add_tile(const ProductTile<Real>& sum, Real* C, int64_t stride, int64_t rows, int64_t columns) {
  constexpr int L = lanes<Real>;
  if (rows == product_rows && columns == panel_width<Real>) {
    for (int r = 0; r < product_rows; ++r)
      for (int v = 0; v < product_vectors<Real>; ++v) {
        Real* to = C + r * stride + v * L;
        store<Real>(to, load<Real>(to) + sum.rows[r][v]);
      }
    return;
  }
  Real numbers[product_rows * panel_width<Real>];
  std::memcpy(numbers, sum.rows, sizeof(numbers));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < columns; ++j) C[r * stride + j] += numbers[r * panel_width<Real> + j];
}

// Cuts each part into slices of about as many rows, `depth` at most.
template <class Real>
std::vector<Slice> cut(const std::vector<std::vector<RowsOfJ<Real>>>& parts) {
  std::vector<Slice> slices;
  int64_t first = 0;
  for (size_t part = 0; part < parts.size(); ++part) {
    int64_t rows = 0;
    for (const auto& run : parts[part]) rows += run.count;
    const int64_t pieces = std::max<int64_t>(1, (rows + depth - 1) / depth);
    for (int64_t p = 0; p < pieces; ++p) {
      const int64_t start = p * rows / pieces, end = (p + 1) * rows / pieces;
      slices.push_back({part, first + start, end - start, p == 0, p == pieces - 1});
    }
    first += rows;
  }
  return slices;
}

// The end of the slices from `slice` on that have `depth` rows together at most.
inline const Slice* find_batch_end(const Slice* slice, const Slice* end) {
  const int64_t last = slice->first + depth;
  do {
    ++slice;
  } while (slice < end && slice->first + slice->count <= last);
  return slice;
}

// The tiles of a block row, one above the other, and the sums that `push_slices` has of each.
inline int64_t count_tiles(int64_t rows) { return (rows + product_rows - 1) / product_rows; }
inline int64_t count_levels(const std::vector<Slice>& slices) {
  return __builtin_popcountll(slices.back().part) + 1;
}

// Adds J^T J to the elements of C in rows first … last - 1 and a panel of columns j …; sums has
// memory for those of all tiles.
template <class Real>
void add_panel(const Panels<Real>& J, const std::vector<Slice>& slices, int64_t first, int64_t last,
               int64_t j, Real* own, int64_t stride, ProductTile<Real>* sums) {
  constexpr int64_t width = panel_width<Real>;
  // The tiles above it are above the diagonal.
  const int64_t top = first + std::max<int64_t>(0, j - first) / product_rows * product_rows;
  const int64_t tiles = count_tiles(last - top), levels = count_levels(slices);
  const int64_t next = j + width < last ? j + width : 0;
  const int64_t step = int64_t(sizeof(Real)) * width / tiles;
  const Slice* const end = slices.data() + slices.size();
  for (const Slice *slice = slices.data(), *batch; slice < end; slice = batch) {
    batch = find_batch_end(slice, end);
    const char* ahead = reinterpret_cast<const char*>(J.find(slice->first, next));
    const int64_t rows = batch[-1].first + batch[-1].count - slice->first;
    for (int64_t t = 0; t < tiles; ++t)
      push_slices(J, slice, batch, top + t * product_rows, j, ahead + t * rows * step, step,
                  sums + t * levels);
  }
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t i = top + t * product_rows;
    add_tile<Real>(sums[t * levels], own + (i - first) * stride + j, stride,
                   std::min<int64_t>(product_rows, last - i), std::min<int64_t>(width, last - j));
  }
}

}  // namespace

template <class Real>
void add_gram_sums(const std::vector<std::vector<RowsOfJ<Real>>>& parts, int64_t n,
                   const BlockRows<Real>& C, int threads) {
  std::vector<const Real*> rows;
  for (const auto& part : parts)
    for (const auto& run : part)
      for (int64_t k = 0; k < run.count; ++k) rows.push_back(run.first + k * run.stride);
  const std::vector<Slice> slices = cut(parts);
  Panels<Real> J(std::move(rows), n);
  const int64_t blocks = (n + C.height - 1) / C.height;
  // Each thread's: what throws may not do so among the threads, which would end the process.
  const int64_t tiles = count_tiles(std::min(n, C.height)) * count_levels(slices);
  std::vector<std::vector<ProductTile<Real>>> sums(threads);
  for (auto& own : sums) own.resize(tiles);
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t k = 0; k < J.count(); k += packed_at_a_time)
      J.pack(k, std::min(J.count(), k + packed_at_a_time));
    ProductTile<Real>* const own = sums[omp_get_thread_num()].data();
#pragma omp for schedule(dynamic, 1)
    for (int64_t block = blocks - 1; block >= 0; --block) {  // the longest rows first
      const int64_t first = block * C.height, last = std::min(n, first + C.height);
      for (int64_t j = 0; j < last; j += panel_width<Real>)
        add_panel(J, slices, first, last, j, C.numbers + C.places[block], C.strides[block], own);
    }
  }
}

template void add_gram_sums<double>(const std::vector<std::vector<RowsOfJ<double>>>&, int64_t,
                                    const BlockRows<double>&, int);
template void add_gram_sums<float>(const std::vector<std::vector<RowsOfJ<float>>>&, int64_t,
                                   const BlockRows<float>&, int);

}  // namespace hpctrain
