#include "dense.hpp"

#include <omp.h>

#include "simd.hpp"

namespace hpctrain {

namespace {

// Rows that share the loads of x and right: four streams are also what hardware prefetchers like.
constexpr int row_block = 4;

template <class Real, int Rows, bool Update>
void sweep_rows(Real* H, int64_t columns, Real scale, const Real* left, const Real* right,
                const Real* x, Real* product) {
  using V = Vector<Real>;
  constexpr int L = lanes<Real>;
  const Real *right0 = right, *right1 = right + columns;
  V sum[Rows] = {};
  int64_t j = 0;
  for (; j + L <= columns; j += L) {
    const V xj = load<Real>(x + j);
    V r0 = {}, r1 = {};
    if constexpr (Update) {
      r0 = load<Real>(right0 + j);
      r1 = load<Real>(right1 + j);
    }
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) {
      V h = load<Real>(H + i * columns + j);
      if constexpr (Update) {
        h = scale * h + left[2 * i] * r0 + left[2 * i + 1] * r1;
        store<Real>(H + i * columns + j, h);
      }
      sum[i] += h * xj;
    }
  }
  for (int i = 0; i < Rows; ++i) {
    Real total = sum_lanes<Real>(sum[i]);
    for (int64_t k = j; k < columns; ++k) {
      Real& h = H[i * columns + k];
      if constexpr (Update) h = scale * h + left[2 * i] * right0[k] + left[2 * i + 1] * right1[k];
      total += h * x[k];
    }
    product[i] = total;
  }
}

template <class Real, bool Update>
void sweep(Real* H, int64_t rows, int64_t columns, Real scale, const Real* left, const Real* right,
           const Real* x, Real* product, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t block = 0; block < (rows + row_block - 1) / row_block; ++block) {
    const int64_t i = block * row_block;
    if (i + row_block <= rows) {
      sweep_rows<Real, row_block, Update>(H + i * columns, columns, scale, left + 2 * i, right, x,
                                          product + i);
    } else {
      for (int64_t k = i; k < rows; ++k)
        sweep_rows<Real, 1, Update>(H + k * columns, columns, scale, left + 2 * k, right, x,
                                    product + k);
    }
  }
}

}  // namespace

template <class Real>
void update_and_multiply(Real* H, int64_t rows, int64_t columns, Real scale, const Real* left,
                         const Real* right, const Real* x, Real* product, int threads) {
  if (left)
    sweep<Real, true>(H, rows, columns, scale, left, right, x, product, threads);
  else
    sweep<Real, false>(H, rows, columns, scale, left, right, x, product, threads);
}

template void update_and_multiply<double>(double*, int64_t, int64_t, double, const double*,
                                          const double*, const double*, double*, int);
template void update_and_multiply<float>(float*, int64_t, int64_t, float, const float*,
                                         const float*, const float*, float*, int);

}  // namespace hpctrain
