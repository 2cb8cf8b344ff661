// What happens to one tile of points: small matrix products, tanh of jets, their reverse.
//
// A tile holds [unit][component][point], so that a layer acts on a matrix (units, columns) whose rows
// are contiguous; columns = components x tile_points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "jets.hpp"
#include "simd.hpp"

namespace hpctrain {

template <class Real> constexpr int panel_points = panel_vectors * lanes<Real>;

// Rows and columns of the register blocks of the two products below.
constexpr int row_block = 5, gradient_rows = 4, gradient_columns = 5;

// out[r][panel] = bias[r] + sum_i weight[r][i] y[i][panel], for Rows rows and one panel of points.
template <class Real, int Rows>
inline void product_block(const Real* weight, int inner, const Real* y, int columns,
                          const Real* bias, Real* out) {
  using V = Vector<Real>;
  V sum[Rows][panel_vectors];
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < panel_vectors; ++v) sum[r][v] = V{} + (bias ? bias[r] : Real(0));
  for (int i = 0; i < inner; ++i) {
    V x[panel_vectors];
#pragma GCC unroll 8
    for (int v = 0; v < panel_vectors; ++v) x[v] = load<Real>(y + i * columns + v * lanes<Real>);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Real w = weight[r * inner + i];
#pragma GCC unroll 8
      for (int v = 0; v < panel_vectors; ++v) sum[r][v] += w * x[v];
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < panel_vectors; ++v)
      store<Real>(out + r * columns + v * lanes<Real>, sum[r][v]);
}

// out (rows x columns) = weight (rows x inner) y (inner x columns), plus the bias on the first
// tile_points columns, which hold the values.
template <class Real>
void product(const Real* weight, int rows, int inner, const Real* y, int columns, const Real* bias,
             Real* out) {
  for (int c = 0; c < columns; c += panel_points<Real>) {
    const bool values = bias && c < tile_points<Real>;
    int r = 0;
    const auto block = [&](auto count) {
      product_block<Real, decltype(count)::value>(weight + r * inner, inner, y + c, columns,
                                                  values ? bias + r : nullptr,
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
}

// Numbers that a block of the gradient takes in the sums: whole vectors.
template <class Real> constexpr int block_slots(int rows, int columns) {
  return (rows * columns + lanes<Real> - 1) / lanes<Real> * lanes<Real>;
}

// sums += adjoint[r][:] . y[i][:] over the columns of a tile, for Rows x Columns pairs (r, i).
template <class Real, int Rows, int Columns>
inline void gradient_block(const Real* adjoint, const Real* y, int columns, Real* sums) {
  using V = Vector<Real>;
  constexpr int L = lanes<Real>, slots = block_slots<Real>(Rows, Columns);
  V sum[slots] = {};
  for (int c = 0; c < columns; c += L) {
    V x[Columns];
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) x[i] = load<Real>(y + i * columns + c);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const V a = load<Real>(adjoint + r * columns + c);
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
template <class Real>
void accumulate_gradient(const Real* adjoint, int outputs, const Real* y, int inputs, int columns,
                         Real* sums) {
  for_each_block(outputs, inputs, [&](auto rows, auto block_columns, int r, int i) {
    gradient_block<Real, rows.value, block_columns.value>(adjoint + r * columns, y + i * columns,
                                                          columns, sums);
    sums += block_slots<Real>(rows.value, block_columns.value);
  });
  for (int r = 0; r < outputs; ++r, sums += lanes<Real>) {
    Vector<Real> sum = load<Real>(sums);
    for (int t = 0; t < tile_points<Real>; t += lanes<Real>)
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
const Real* collect_gradient(const Real* sums, int outputs, int inputs, Real* gradient) {
  for_each_block(outputs, inputs, [&](auto rows, auto columns, int r, int i) {
    for (int k = 0; k < rows.value * columns.value; ++k)
      gradient[(r + k / columns.value) * inputs + i + k % columns.value] = sums[k];
    sums += block_slots<Real>(rows.value, columns.value);
  });
  for (int r = 0; r < outputs; ++r, sums += lanes<Real>)
    gradient[outputs * inputs + r] = sum_lanes<Real>(load<Real>(sums));
  return sums;
}

// Which components a jet has: Firsts first derivatives, and a second one beside those in Seconds.
template <int Firsts, unsigned Seconds> struct Shape {
  static constexpr int firsts = Firsts;
  static constexpr bool has_second(int j) { return Seconds >> j & 1; }
  static constexpr int second(int j) {  // its component
    int component = 1 + Firsts;
    for (int k = 0; k < j; ++k) component += has_second(k);
    return component;
  }
  static constexpr int components = second(Firsts);
};

// Coordinates that can have derivatives.
constexpr int most_firsts = 4;

// Calls run with the Shape of the given orders as a constant.
template <int Firsts = 0, unsigned Seconds = 0, class Run>
inline void with_shape(int firsts, unsigned seconds, Run run) {
  if (firsts == Firsts && seconds == Seconds) return run(Shape<Firsts, Seconds>{});
  if constexpr (Seconds + 1 < 1u << Firsts)
    with_shape<Firsts, Seconds + 1>(firsts, seconds, run);
  else if constexpr (Firsts < most_firsts)
    with_shape<Firsts + 1>(firsts, seconds, run);
}

// The value of w becomes h = tanh(w).
template <class Real> void activate(int units, int columns, Real* w) {
  for (int u = 0; u < units; ++u, w += columns)
    for (int t = 0; t < tile_points<Real>; t += lanes<Real>)
      store<Real>(w + t, tanh<Real>(load<Real>(w + t)));
}

// The jets of tanh out of an activated w, put into y, or added to it by a factor:
//   y = h, y_j = s1 w_j, y_jj = s1 w_jj + s2 w_j^2 with s1 = 1 - h^2, s2 = -2 h s1.
template <class Real, bool Add, class S>
void tanh_jets(S, int units, Real factor, const Real* w, Real* y) {
  using V = Vector<Real>;
  constexpr int T = tile_points<Real>, columns = S::components * T;
  const auto put = [&](Real* to, V value) {
    if constexpr (Add)
      store<Real>(to, load<Real>(to) + factor * value);
    else
      store<Real>(to, value);
  };
  for (int u = 0; u < units; ++u, w += columns, y += columns)
    for (int t = 0; t < T; t += lanes<Real>) {
      const V h = load<Real>(w + t), s1 = Real(1) - h * h;
      put(y + t, h);
#pragma GCC unroll 4
      for (int j = 0; j < S::firsts; ++j) {
        const V w_j = load<Real>(w + (1 + j) * T + t);
        put(y + (1 + j) * T + t, s1 * w_j);
        if (S::has_second(j)) {
          const V w_jj = load<Real>(w + S::second(j) * T + t);
          put(y + S::second(j) * T + t, s1 * (w_jj - (h + h) * (w_j * w_j)));
        }
      }
    }
}

// The adjoint of w out of that of y, times a factor, with s3 = d s2/dw = -2 (s1^2 + h s2):
//   w_bar_jj = s1 y_bar_jj, w_bar_j = s1 y_bar_j + 2 s2 w_j y_bar_jj,
//   w_bar = s1 y_bar + sum_j s2 w_j y_bar_j + (s2 w_jj + s3 w_j^2) y_bar_jj.
template <class Real, class S>
void tanh_reverse(S, int units, Real factor, const Real* w, const Real* y_bar, Real* w_bar) {
  using V = Vector<Real>;
  constexpr int T = tile_points<Real>, columns = S::components * T;
  for (int u = 0; u < units; ++u, w += columns, y_bar += columns, w_bar += columns)
    for (int t = 0; t < T; t += lanes<Real>) {
      const V h = load<Real>(w + t), slope = Real(1) - h * h, s1 = factor * slope;
      const V s2 = Real(-2) * h * s1, s3 = Real(-2) * (slope * s1 + h * s2);
      V value = s1 * load<Real>(y_bar + t);
#pragma GCC unroll 4
      for (int j = 0; j < S::firsts; ++j) {
        const int first = (1 + j) * T + t, second = S::second(j) * T + t;
        const V w_j = load<Real>(w + first), bar_j = load<Real>(y_bar + first);
        const V s2_w_j = s2 * w_j;
        V first_bar = s1 * bar_j;
        value += s2_w_j * bar_j;
        if (S::has_second(j)) {
          const V w_jj = load<Real>(w + second), bar_jj = load<Real>(y_bar + second);
          store<Real>(w_bar + second, s1 * bar_jj);
          first_bar += Real(2) * s2_w_j * bar_jj;
          value += (s2 * w_jj + s3 * (w_j * w_j)) * bar_jj;
        }
        store<Real>(w_bar + first, first_bar);
      }
      store<Real>(w_bar + t, value);
    }
}

}  // namespace hpctrain
