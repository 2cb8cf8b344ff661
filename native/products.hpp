// Products of packed matrices, tile by tile: the inner loop of Gram matrices and Cholesky factors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "simd.hpp"

namespace hpctrain {

// A register tile has product_rows x (product_vectors vectors). Factors are packed by panels of as
// many columns as a tile has, and taken some rows at a time by several tiles, so that those of a
// panel stay in the first cache (the blocking of Goto and van de Geijn, 2008). The tile's rows lie
// within one panel of its columns.
#if defined(__AVX512F__)
constexpr int product_rows = 8;
#else
constexpr int product_rows = 4;
#endif

template <class Real> constexpr int product_vectors = lanes<Real> < product_rows ? 4 : 3;
template <class Real> constexpr int panel_width = product_vectors<Real> * lanes<Real>;

template <class Real> struct ProductTile {
  Vector<Real> rows[product_rows][product_vectors<Real>];

  ProductTile& operator+=(const ProductTile& other) {
#pragma GCC unroll 8
    for (int r = 0; r < product_rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < product_vectors<Real>; ++v) rows[r][v] += other.rows[r][v];
    return *this;
  }
};

// sum += sum_k a[k][i] b[k][j] over rows of two panels. Meanwhile memory from `ahead` on, `step` bytes
// a row, is brought to the second cache.
template <class Real>
inline void add_products(const Real* a, const Real* b, int64_t count, const char* ahead,
                         int64_t step, ProductTile<Real>& sum) {
  constexpr int L = lanes<Real>, width = panel_width<Real>;
  for (int64_t k = 0; k < count; ++k, a += width, b += width, ahead += step) {
    Vector<Real> x[product_vectors<Real>];
    __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
    for (int v = 0; v < product_vectors<Real>; ++v) x[v] = load<Real>(b + v * L);
#pragma GCC unroll 8
    for (int r = 0; r < product_rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < product_vectors<Real>; ++v) sum.rows[r][v] += a[r] * x[v];
  }
}

}  // namespace hpctrain
