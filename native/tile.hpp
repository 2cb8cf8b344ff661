// The small matrix products of a layer on one tile of T points.
//
// A tile holds [unit][component][point], so that a layer acts on a matrix (units, columns) whose rows
// are contiguous; columns = components x T.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "simd.hpp"

namespace hpctrain {

template <class Real> constexpr int panel_points = panel_vectors * lanes<Real>;

// Rows and columns of the register blocks of the two products below. x86 has half as many registers
// without AVX-512 as with it, and as others.
constexpr int row_block = 5, gradient_columns = 4;
#if defined(__AVX512F__) || !defined(__SSE2__)
constexpr int gradient_rows = 4;
#else
constexpr int gradient_rows = 3;
#endif

// out[r][panel] = bias[r] + sum_i weight[r][i] y[i][panel], for Rows rows and a panel of so many
// vectors of points. The bias may be null; in a Mixed panel its first `values` points take it only.
// With Add it is added to out, and there is no bias.
template <class Real, int Rows, int Vectors, bool Mixed, bool Add>
inline void product_block(const Real* weight, int inner, const Real* y, int columns,
                          const Real* bias, int values, Real* out) {
  using V = Vector<Real>;
  V sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      if constexpr (Add)
        sum[r][v] = load<Real>(out + r * columns + v * lanes<Real>);
      else
        sum[r][v] = V{} + (bias && (!Mixed || v * lanes<Real> < values) ? bias[r] : Real(0));
  for (int i = 0; i < inner; ++i) {
    V x[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) x[v] = load<Real>(y + i * columns + v * lanes<Real>);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Real w = weight[r * inner + i];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += w * x[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      store<Real>(out + r * columns + v * lanes<Real>, sum[r][v]);
}

// One panel of the product below, at column c.
template <class Real, int T, int Vectors, bool Add>
inline void product_panel(const Real* weight, int rows, int inner, const Real* y, int columns,
                          const Real* bias, int c, Real* out) {
  const bool valued = bias && c < T;
  int r = 0;
  const auto block = [&](auto count) {
    product_block<Real, decltype(count)::value, Vectors, T % (Vectors * lanes<Real>) != 0,
                  Add>(
        weight + int64_t(r) * inner, inner, y + c, columns, valued ? bias + r : nullptr, T - c,
        out + r * columns + c);
  };
  for (; r + row_block <= rows; r += row_block) block(std::integral_constant<int, row_block>{});
  switch (rows - r) {
    case 4: block(std::integral_constant<int, 4>{}); break;
    case 3: block(std::integral_constant<int, 3>{}); break;
    case 2: block(std::integral_constant<int, 2>{}); break;
    case 1: block(std::integral_constant<int, 1>{}); break;
  }
}

// out (rows x columns) = weight (rows x inner) y (inner x columns), plus the bias, which may be
// null, on the first T columns, which hold the values; with Add, out += weight y.
template <class Real, int T, bool Add = false>
void product(const Real* weight, int rows, int inner, const Real* y, int columns, const Real* bias,
             Real* out) {
  int c = 0;
  for (; c + panel_points<Real> <= columns; c += panel_points<Real>)
    product_panel<Real, T, panel_vectors, Add>(weight, rows, inner, y, columns, bias, c, out);
  if constexpr (T % panel_points<Real> != 0)
    for (; c < columns; c += lanes<Real>)
      product_panel<Real, T, 1, Add>(weight, rows, inner, y, columns, bias, c, out);
}

// Numbers that a block of the gradient takes in the sums: whole vectors.
template <class Real> constexpr int block_slots(int rows, int columns) {
  return (rows * columns + lanes<Real> - 1) / lanes<Real> * lanes<Real>;
}

// sums += adjoint[r][:] . y[i][:] over the columns of a tile, for Rows x Columns pairs (r, i). Not
// inline: within a long function GCC keeps the sums in memory.
template <class Real, int Rows, int Columns>
__attribute__((noinline)) void gradient_block(const Real* adjoint, const Real* y, int columns, Real* sums) {
  using V = Vector<Real>;
  constexpr int L = lanes<Real>, slots = block_slots<Real>(Rows, Columns);
  V sum[slots];
#pragma GCC unroll 32
  for (int k = 0; k < slots; ++k) sum[k] = V{};
  for (int c = 0; c < columns; c += L) {
    V x[Columns];
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) {
      x[i] = load<Real>(y + i * columns + c);
      keep_in_register(x[i]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      V a = load<Real>(adjoint + r * columns + c);
      keep_in_register(a);
#pragma GCC unroll 8
      for (int i = 0; i < Columns; ++i) sum[r * Columns + i] += a * x[i];
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < slots; k += L)
    store<Real>(sums + k, load<Real>(sums + k) + sum_each<Real>(sum + k));
}

// Calls visit(rows, columns, r, i) for the register blocks of an outputs x inputs gradient, in the
// order in which they stand in the sums; rows and columns are integral constants.
template <class Visit> inline void for_each_block(int outputs, int inputs, Visit visit) {
  const auto across = [&](auto rows, int r) {
    int i = 0;
    const auto at = [&](auto columns) { visit(rows, columns, r, i); };
    for (; i + gradient_columns <= inputs; i += gradient_columns)
      at(std::integral_constant<int, gradient_columns>{});
    switch (inputs - i) {
      case 4: at(std::integral_constant<int, 4>{}); break;
      case 3: at(std::integral_constant<int, 3>{}); break;
      case 2: at(std::integral_constant<int, 2>{}); break;
      case 1: at(std::integral_constant<int, 1>{}); break;
    }
  };
  int r = 0;
  for (; r + gradient_rows <= outputs; r += gradient_rows)
    across(std::integral_constant<int, gradient_rows>{}, r);
  switch (outputs - r) {
    case 3: across(std::integral_constant<int, 3>{}, r); break;
    case 2: across(std::integral_constant<int, 2>{}, r); break;
    case 1: across(std::integral_constant<int, 1>{}, r); break;
  }
}

// Adds a tile's part of the gradient of a layer: weights by blocks, then the biases by lanes.
template <class Real, int T>
void accumulate_gradient(const Real* adjoint, int outputs, const Real* y, int inputs, int columns,
                         Real* sums) {
  for_each_block(outputs, inputs, [&](auto rows, auto block_columns, int r, int i) {
    gradient_block<Real, rows.value, block_columns.value>(adjoint + r * columns, y + i * columns,
                                                          columns, sums);
    sums += block_slots<Real>(rows.value, block_columns.value);
  });
  for (int r = 0; r < outputs; ++r, sums += lanes<Real>) {
    Vector<Real> sum = load<Real>(sums);
    for (int t = 0; t < T; t += lanes<Real>)
      sum += load<Real>(adjoint + r * columns + t);
    store<Real>(sums, sum);
  }
}

// Numbers that the sums of a layer take.
template <class Real> int64_t sums_size(int outputs, int inputs) {
  int64_t size = int64_t(outputs) * lanes<Real>;
  for_each_block(outputs, inputs, [&](auto rows, auto columns, int, int) {
    size += block_slots<Real>(rows.value, columns.value);
  });
  return size;
}

// The gradient of a layer out of its sums: W by rows, then b.
template <class Real>
void collect_gradient(const Real* sums, int outputs, int inputs, Real* gradient) {
  for_each_block(outputs, inputs, [&](auto rows, auto columns, int r, int i) {
    for (int k = 0; k < rows.value * columns.value; ++k)
      gradient[int64_t(r + k / columns.value) * inputs + i + k % columns.value] = sums[k];
    sums += block_slots<Real>(rows.value, columns.value);
  });
  for (int r = 0; r < outputs; ++r, sums += lanes<Real>)
    gradient[int64_t(outputs) * inputs + r] = sum_lanes<Real>(load<Real>(sums));
}

}  // namespace hpctrain
