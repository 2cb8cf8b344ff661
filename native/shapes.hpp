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

// w becomes the jets of tanh, y, which may be added elsewhere too, times a factor:
//   y = h = tanh(w), y_j = s1 w_j, y_jj = s1 w_jj + s2 w_j^2 with s1 = 1 - h^2, s2 = -2 h s1.
// Activated: w is h already.
template <class Real, int T, bool Activated, bool Add, class S>
void tanh_jets(S, int units, Real factor, Real* w, Real* sum) {
  using V = Vector<Real>;
  constexpr int L = lanes<Real>, columns = S::components * T, count = tanh_vectors<Real, T>;
  for (int u = 0; u < units; ++u, w += columns, sum += columns)
    for (int start = 0; start < T; start += count * L) {
      V h[count];
#pragma GCC unroll 4
      for (int n = 0; n < count; ++n) h[n] = load<Real>(w + start + n * L);
      if constexpr (!Activated) tanh<Real>(h);
#pragma GCC unroll 4
      for (int n = 0; n < count; ++n) {
        const int t = start + n * L;
        const auto put = [&](int component, V value) {
          const int at = component * T + t;
          store<Real>(w + at, value);
          if constexpr (Add) store<Real>(sum + at, load<Real>(sum + at) + factor * value);
        };
        const V s1 = Real(1) - h[n] * h[n], twice = h[n] + h[n];
        put(0, h[n]);
#pragma GCC unroll 4
        for (int j = 0; j < S::firsts; ++j) {
          const V w_j = load<Real>(w + (1 + j) * T + t);
          put(1 + j, s1 * w_j);
          if (S::has_second(j)) {
            const V w_jj = load<Real>(w + S::second(j) * T + t);
            put(S::second(j), s1 * (w_jj - twice * (w_j * w_j)));
          }
        }
      }
    }
}

// The adjoint of w out of that of y, times a factor, and of y itself, where w_j s1 is y_j; it may
// take the place of y's:
//   w_bar_jj = s1 y_bar_jj, w_bar_j = s1 y_bar_j - 4 h y_j y_bar_jj,
//   w_bar = s1 y_bar - 2 h (sum_j y_j y_bar_j + y_jj y_bar_jj) - 2 sum_j y_j^2 y_bar_jj.
template <class Real, int T, class S>
void tanh_reverse(S, int units, Real factor, const Real* y, const Real* y_bar, Real* w_bar) {
  using V = Vector<Real>;
  constexpr int columns = S::components * T;
  for (int u = 0; u < units; ++u, y += columns, y_bar += columns, w_bar += columns)
    for (int t = 0; t < T; t += lanes<Real>) {
      const V h = load<Real>(y + t), s1 = factor * (Real(1) - h * h), twice = h + h;
      V inner = {}, value = s1 * load<Real>(y_bar + t);
#pragma GCC unroll 4
      for (int j = 0; j < S::firsts; ++j) {
        const int first = (1 + j) * T + t, second = S::second(j) * T + t;
        const V y_j = load<Real>(y + first), bar_j = load<Real>(y_bar + first);
        inner += y_j * bar_j;
        V first_bar = s1 * bar_j;
        if (S::has_second(j)) {
          const V bar_jj = load<Real>(y_bar + second);
          const V pulled = (Real(-2) * factor * y_j) * bar_jj;
          inner += load<Real>(y + second) * bar_jj;
          first_bar += twice * pulled;
          value += y_j * pulled;
          store<Real>(w_bar + second, s1 * bar_jj);
        }
        store<Real>(w_bar + first, first_bar);
      }
      store<Real>(w_bar + t, value - (factor * twice) * inner);
    }
}

}  // namespace hpctrain
