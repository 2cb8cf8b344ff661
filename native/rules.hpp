// Nonlinearities f on jets of any shape, by lists of products.
//
// Component c of y = f(w) is, by Faa di Bruno's formula, a sum of products
//   coefficient f^(k)(w) w_a w_b ...
// whose degree k is the number of factors. The lists are made once (hpctrain/kernels/jets.py); the
// value y_0 = f(w) has none. A list whose factors are tangents too gives the tangent of y.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "simd.hpp"

namespace hpctrain {

enum class Activation { tanh, sine };

// Derivatives to order 4, and one along the parameters.
constexpr int most_factors = 5;

// A component of w, or its tangent, which stands `distance` numbers behind the component.
struct Factor {
  int component;
  int64_t distance;

  template <int T> int64_t place() const { return int64_t(component) * T + distance; }
};

template <class Real> struct Product {
  Real coefficient;
  int degree;
  Factor factors[most_factors];
};

template <class Real> struct Rules {
  std::vector<int> starts{0};  // component c has the products starts[c] .. starts[c + 1] - 1
  std::vector<Product<Real>> products;
  int degree = 0;  // the highest

  int components() const { return int(starts.size()) - 1; }
};

// The value of w becomes h = tanh(w), of which tanh's derivatives are polynomials; sine keeps w.
template <class Real, int T>
void activate(Activation f, int units, int columns, Real* w) {
  if (f == Activation::sine) return;
  constexpr int L = lanes<Real>, count = tanh_vectors<Real, T>;
  for (int u = 0; u < units; ++u, w += columns)
    for (int t = 0; t < T; t += count * L) {
      Vector<Real> h[count];
      for (int n = 0; n < count; ++n) h[n] = load<Real>(w + t + n * L);
      tanh<Real>(h);
      for (int n = 0; n < count; ++n) store<Real>(w + t + n * L, h[n]);
    }
}

// s[k] = f^(k) for k to `highest`, out of an activated value. With h' = 1 - h^2,
//   h^(n+1) = -sum_k binomial(n, k) h^(k) h^(n-k)  for n > 0.
template <class Real>
inline void slopes(Activation f, int highest, Vector<Real> value, Vector<Real>* s) {
  if (f == Activation::sine) {
    sine_and_cosine<Real>(value, s[0], s[1]);
    for (int k = 2; k <= highest; ++k) s[k] = -s[k - 2];
    return;
  }
  const auto h = s[0] = value;
  s[1] = Real(1) - h * h;
  if (highest >= 2) s[2] = Real(-2) * (h * s[1]);
  if (highest >= 3) s[3] = Real(-2) * (h * s[2] + s[1] * s[1]);
  if (highest >= 4) s[4] = Real(-2) * (h * s[3] + Real(3) * (s[1] * s[2]));
  if (highest >= 5)
    s[5] = Real(-2) * (h * s[4] + Real(4) * (s[1] * s[3]) + Real(3) * (s[2] * s[2]));
}

// A unit's slopes over a tile, [k][vector].
template <class Real, int T> struct Slopes {
  static constexpr int vectors = T / lanes<Real>;
  Vector<Real> s[most_factors + 1][vectors];

  Slopes(Activation f, int highest, const Real* w) {
    for (int v = 0; v < vectors; ++v) {
      Vector<Real> column[most_factors + 1];
      slopes<Real>(f, highest, load<Real>(w + v * lanes<Real>), column);
      for (int k = 0; k <= highest; ++k) s[k][v] = column[k];
    }
  }
};

// The components of f(w), or of its tangent, from `first` on, out of an activated w; put into y, or
// added to it by a factor.
template <class Real, int T, bool Add>
void rule_jets(const Rules<Real>& rules, Activation f, int first, int units, Real factor,
               const Real* w, Real* y) {
  using V = Vector<Real>;
  constexpr int L = lanes<Real>, vectors = T / L;
  const int components = rules.components(), columns = components * T;
  const auto put = [&](Real* to, const V* values) {
    for (int v = 0; v < vectors; ++v, to += L)
      store<Real>(to, Add ? load<Real>(to) + factor * values[v] : values[v]);
  };
  for (int u = 0; u < units; ++u, w += columns, y += columns) {
    const Slopes<Real, T> slopes(f, rules.degree, w);
    if (first > 0) put(y, slopes.s[0]);
    for (int c = first; c < components; ++c) {
      V sum[vectors] = {};
      for (int p = rules.starts[c]; p < rules.starts[c + 1]; ++p) {
        const Product<Real>& product = rules.products[p];
        V term[vectors];
        for (int v = 0; v < vectors; ++v)
          term[v] = product.coefficient * slopes.s[product.degree][v];
        for (int i = 0; i < product.degree; ++i)
          for (int v = 0; v < vectors; ++v)
            term[v] *= load<Real>(w + product.factors[i].template place<T>() + v * L);
        for (int v = 0; v < vectors; ++v) sum[v] += term[v];
      }
      put(y + c * T, sum);
    }
  }
}

// Adds to the adjoint of w that of one product of Degree factors, for the adjoint g of its sum.
template <class Real, int T, int Degree>
inline void pull_product(const Product<Real>& product, const Slopes<Real, T>& slopes,
                         const Vector<Real>* g, const Real* w, Real* w_bar, Vector<Real>* value) {
  using V = Vector<Real>;
  for (int v = 0; v < Slopes<Real, T>::vectors; ++v) {
    const int at = v * lanes<Real>;
    const V scaled = product.coefficient * g[v];
    V factor[Degree], before[Degree];  // before[i]: all that stands before factor i
    before[0] = scaled * slopes.s[Degree][v];
    for (int i = 0; i < Degree; ++i) {
      factor[i] = load<Real>(w + product.factors[i].template place<T>() + at);
      if (i > 0) before[i] = before[i - 1] * factor[i - 1];
    }
    V after = V{} + Real(1);
    for (int i = Degree - 1; i >= 0; --i) {
      Real* to = w_bar + product.factors[i].template place<T>() + at;
      store<Real>(to, load<Real>(to) + before[i] * after);
      after *= factor[i];
    }
    value[v] += scaled * slopes.s[Degree + 1][v] * after;
  }
}

// The adjoint of w out of that of y, times a factor.
//
// A component's own product f'(w) w_c comes first in its list, and all others that w_c is a factor
// of belong to later components: the former starts the adjoint of w_c, the latter add to it.
template <class Real, int T>
void rule_reverse(const Rules<Real>& rules, Activation f, int units, Real factor, const Real* w,
                  const Real* y_bar, Real* w_bar) {
  using V = Vector<Real>;
  constexpr int L = lanes<Real>, vectors = T / L;
  const int components = rules.components(), columns = components * T;
  for (int u = 0; u < units; ++u, w += columns, y_bar += columns, w_bar += columns) {
    const Slopes<Real, T> slopes(f, rules.degree + 1, w);
    V value[vectors];
    for (int v = 0; v < vectors; ++v)
      value[v] = factor * slopes.s[1][v] * load<Real>(y_bar + v * L);
    for (int c = 1; c < components; ++c) {
      V g[vectors];
      for (int v = 0; v < vectors; ++v) {
        const int at = c * T + v * L;
        g[v] = factor * load<Real>(y_bar + at);
        store<Real>(w_bar + at, slopes.s[1][v] * g[v]);
        value[v] += slopes.s[2][v] * g[v] * load<Real>(w + at);
      }
      for (int p = rules.starts[c] + 1; p < rules.starts[c + 1]; ++p) {
        const Product<Real>& product = rules.products[p];
        const auto pull = [&](auto degree) {
          pull_product<Real, T, decltype(degree)::value>(product, slopes, g, w, w_bar, value);
        };
        if (product.degree == 2)
          pull(std::integral_constant<int, 2>{});
        else if (product.degree == 3)
          pull(std::integral_constant<int, 3>{});
        else
          pull(std::integral_constant<int, 4>{});
      }
    }
    for (int v = 0; v < vectors; ++v) store<Real>(w_bar + v * L, value[v]);
  }
}

}  // namespace hpctrain
