// The common shapes of jets, compiled: tanh of values, first and pure second derivatives.
//
// All other shapes, and other activations, go by lists of products (rules.hpp).
#pragma once

#include <cstdint>

#include "simd.hpp"

namespace hpctrain {

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

// The jets of tanh out of an activated w, put into y, or added to it by a factor:
//   y = h, y_j = s1 w_j, y_jj = s1 w_jj + s2 w_j^2 with s1 = 1 - h^2, s2 = -2 h s1.
template <class Real, int T, bool Add, class S>
void tanh_jets(S, int units, Real factor, const Real* w, Real* y) {
  using V = Vector<Real>;
  constexpr int columns = S::components * T;
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
template <class Real, int T, class S>
void tanh_reverse(S, int units, Real factor, const Real* w, const Real* y_bar, Real* w_bar) {
  using V = Vector<Real>;
  constexpr int columns = S::components * T;
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
