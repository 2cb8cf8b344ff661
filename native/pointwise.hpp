// Residuals as a short program over the jets of a tile's points, with its reverse and tangent.
//
// Equations are written in torch; `hpctrain.kernels.pointwise` traces them into these instructions,
// so that a tile's residuals are evaluated while its jets are in cache. Each value holds one number
// a point of a tile; instruction i makes value i out of earlier ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "simd.hpp"

namespace hpctrain {

enum class Operation { input, array, constant, unknown, add, subtract, multiply, divide, negate,
                       exp, expm1, log, log1p, sqrt, sin, cos, atan, sinh, cosh, tanh,
                       sigmoid, softplus, abs, sign, power, power_of, maximum, minimum,
                       clamp_min, clamp_max, less, less_equal, equal, where };

struct Instruction {
  Operation operation;
  int a, b, c;      // operands; for input the row of the jets, for array its row, for unknown which
  double constant;  // a number, the exponent of power, the threshold of softplus
};

// Residuals r_1 .. r_m of a point, the values of some instructions. A tile has T points, its jets
// are rows of T numbers, (outputs x components, T).
template <class Real> class PointwiseResidual {
 public:
  // arrays: (rows, points) row-major, numbers that belong to the points.
  PointwiseResidual(std::vector<Instruction> instructions, std::vector<int> results, int unknowns,
                    const Real* arrays, int64_t size, int64_t points)
      : instructions_(std::move(instructions)),
        results_(std::move(results)),
        unknowns_(unknowns),
        arrays_(arrays, arrays + size),
        points_(points) {
    leaves_out_ =
        results_.size() > 1 ||
        std::any_of(instructions_.begin(), instructions_.end(), [](const auto& i) {
          return i.operation == Operation::maximum || i.operation == Operation::minimum ||
                 i.operation == Operation::clamp_min || i.operation == Operation::clamp_max ||
                 i.operation == Operation::where;
        });
  }

  int64_t points() const { return points_; }
  int results() const { return int(results_.size()); }
  int unknowns() const { return unknowns_; }

  // Numbers of working memory for a point: the values and their adjoints, or their tangents.
  int64_t memory() const { return 2 * int64_t(instructions_.size()); }

  // r_j of a tile after `forward`, and its tangent after `tangent`, (T).
  template <int T> const Real* value(int j, const Real* memory) const {
    return memory + int64_t(results_[j]) * T;
  }
  template <int T> const Real* value_dot(int j, const Real* memory) const {
    return value<T>(j, memory) + values<T>();
  }

  // The values at the points start .. stop-1, into the memory.
  template <int T>
  void forward(int64_t start, int64_t stop, const Real* jets, const Real* unknowns,
               Real* memory) const {
    const int valid = int(stop - start);
    for (std::size_t k = 0; k < instructions_.size(); ++k) {
      const Instruction& i = instructions_[k];
      Real* v = memory + k * T;
      const Real *a = memory + i.a * T, *b = memory + i.b * T, *c = memory + i.c * T;
      const Real k_i = Real(i.constant);
      switch (i.operation) {
        case Operation::input: a = jets + i.a * T; each<T>([&](int t) { v[t] = a[t]; }); break;
        case Operation::array:
          a = arrays_.data() + i.a * points_ + start;
          each<T>([&](int t) { v[t] = a[t < valid ? t : valid - 1]; });
          break;
        case Operation::constant: each<T>([&](int t) { v[t] = k_i; }); break;
        case Operation::unknown: each<T>([&](int t) { v[t] = unknowns[i.a]; }); break;
        case Operation::add: each<T>([&](int t) { v[t] = a[t] + b[t]; }); break;
        case Operation::subtract: each<T>([&](int t) { v[t] = a[t] - b[t]; }); break;
        case Operation::multiply: each<T>([&](int t) { v[t] = a[t] * b[t]; }); break;
        case Operation::divide: each<T>([&](int t) { v[t] = a[t] / b[t]; }); break;
        case Operation::negate: each<T>([&](int t) { v[t] = -a[t]; }); break;
        case Operation::exp: each<T>([&](int t) { v[t] = std::exp(a[t]); }); break;
        case Operation::expm1: each<T>([&](int t) { v[t] = std::expm1(a[t]); }); break;
        case Operation::log: each<T>([&](int t) { v[t] = std::log(a[t]); }); break;
        case Operation::log1p: each<T>([&](int t) { v[t] = std::log1p(a[t]); }); break;
        case Operation::sqrt: each<T>([&](int t) { v[t] = std::sqrt(a[t]); }); break;
        case Operation::sin: each<T>([&](int t) { v[t] = std::sin(a[t]); }); break;
        case Operation::cos: each<T>([&](int t) { v[t] = std::cos(a[t]); }); break;
        case Operation::atan: each<T>([&](int t) { v[t] = std::atan(a[t]); }); break;
        case Operation::sinh: each<T>([&](int t) { v[t] = std::sinh(a[t]); }); break;
        case Operation::cosh: each<T>([&](int t) { v[t] = std::cosh(a[t]); }); break;
        case Operation::tanh:
          for (int t = 0; t < T; t += lanes<Real>)
            store<Real>(v + t, hpctrain::tanh<Real>(load<Real>(a + t)));
          break;
        case Operation::sigmoid: each<T>([&](int t) { v[t] = 1 / (1 + std::exp(-a[t])); }); break;
        case Operation::softplus:
          each<T>([&](int t) { v[t] = a[t] > k_i ? a[t] : std::log1p(std::exp(a[t])); });
          break;
        case Operation::abs: each<T>([&](int t) { v[t] = std::abs(a[t]); }); break;
        case Operation::sign: each<T>([&](int t) { v[t] = sign(a[t]); }); break;
        case Operation::power: each<T>([&](int t) { v[t] = std::pow(a[t], k_i); }); break;
        case Operation::power_of: each<T>([&](int t) { v[t] = std::pow(a[t], b[t]); }); break;
        // NaN stays NaN in these four, as in torch.
        case Operation::maximum:
          each<T>([&](int t) { v[t] = a[t] > b[t] || a[t] != a[t] ? a[t] : b[t]; });
          break;
        case Operation::minimum:
          each<T>([&](int t) { v[t] = a[t] < b[t] || a[t] != a[t] ? a[t] : b[t]; });
          break;
        case Operation::clamp_min: each<T>([&](int t) { v[t] = a[t] < b[t] ? b[t] : a[t]; }); break;
        case Operation::clamp_max: each<T>([&](int t) { v[t] = a[t] > b[t] ? b[t] : a[t]; }); break;
        case Operation::less: each<T>([&](int t) { v[t] = a[t] < b[t]; }); break;
        case Operation::less_equal: each<T>([&](int t) { v[t] = a[t] <= b[t]; }); break;
        case Operation::equal: each<T>([&](int t) { v[t] = a[t] == b[t]; }); break;
        case Operation::where: each<T>([&](int t) { v[t] = a[t] != 0 ? b[t] : c[t]; }); break;
      }
    }
  }

  // The adjoint of the jets, (rows, T), after `forward` on the same memory, given those of the
  // residuals, (m, T); the unknowns' is added to unknowns_bar, (unknowns, tile_points).
  template <int T>
  void reverse(const Real* seeds, int64_t rows, Real* memory, Real* jets_bar,
               Real* unknowns_bar) const {
    if (leaves_out_)
      pull_back<T, true>(seeds, rows, memory, jets_bar, unknowns_bar);
    else
      pull_back<T, false>(seeds, rows, memory, jets_bar, unknowns_bar);
  }

  // The tangents of the values, after `forward` on the same memory, given those of the jets, (rows,
  // T), and of the unknowns.
  template <int T>
  void tangent(const Real* jets_dot, const Real* unknowns_dot, Real* memory) const {
    Real* dots = memory + values<T>();
    for (std::size_t k = 0; k < instructions_.size(); ++k) {
      const Instruction& i = instructions_[k];
      Real* dot = dots + k * T;
      each<T>([&](int t) { dot[t] = 0; });
      if (i.operation == Operation::input)
        each<T>([&](int t) { dot[t] = jets_dot[i.a * T + t]; });
      else if (i.operation == Operation::unknown)
        each<T>([&](int t) { dot[t] = unknowns_dot[i.a]; });
      else
        partials<T>(k, memory, [&](int operand, auto times_partial) {
          const Real* g = dots + operand * T;
          each<T>([&](int t) { add<true>(dot[t], g[t], times_partial(t, g[t])); });
        });
    }
  }

 private:
  template <int T> int64_t values() const { return int64_t(instructions_.size()) * T; }

  // With LeavesOut an adjoint of zero adds zero, so that what is infinite or NaN in a branch that
  // `where` or a clamp leaves out, or in another residual, does not reach the gradient.
  template <int T, bool LeavesOut>
  void pull_back(const Real* seeds, int64_t rows, Real* memory, Real* jets_bar,
                 Real* unknowns_bar) const {
    Real* bars = memory + values<T>();
    std::fill_n(bars, values<T>(), Real(0));
    std::fill_n(jets_bar, rows * T, Real(0));
    for (const int result : results_) {
      Real* r_bar = bars + result * T;
      each<T>([&](int t) { r_bar[t] += seeds[t]; });
      seeds += T;
    }
    for (int k = int(instructions_.size()) - 1; k >= 0; --k) {
      const Instruction& i = instructions_[k];
      const Real* g = bars + k * T;
      if (i.operation == Operation::input || i.operation == Operation::unknown) {
        Real* bar = i.operation == Operation::input ? jets_bar + i.a * T
                                                    : unknowns_bar + i.a * tile_points<Real>;
        each<T>([&](int t) { bar[t] += g[t]; });
        continue;
      }
      partials<T>(k, memory, [&](int operand, auto times_partial) {
        Real* bar = bars + operand * T;
        each<T>([&](int t) { add<LeavesOut>(bar[t], g[t], times_partial(t, g[t])); });
      });
    }
  }

  // Calls take(operand, times_partial) for each operand of instruction k that has a derivative;
  // times_partial(t, g) is g times the derivative of the value with respect to the operand.
  template <int T, class Take> void partials(int k, const Real* memory, Take take) const {
    const Instruction& i = instructions_[k];
    const Real *v = memory + k * T, *a = memory + i.a * T, *b = memory + i.b * T;
    const Real k_i = Real(i.constant);
    const auto chain = [&](auto derivative) {
      take(i.a, [&](int t, Real g) { return g * derivative(t); });
    };
    const auto pass = [](int, Real g) { return g; };
    const auto turn = [](int, Real g) { return -g; };
    switch (i.operation) {
      case Operation::add: take(i.a, pass); take(i.b, pass); break;
      case Operation::subtract: take(i.a, pass); take(i.b, turn); break;
      case Operation::multiply:
        take(i.a, [&](int t, Real g) { return g * b[t]; });
        take(i.b, [&](int t, Real g) { return g * a[t]; });
        break;
      case Operation::divide:
        take(i.a, [&](int t, Real g) { return g / b[t]; });
        take(i.b, [&](int t, Real g) { return -(g * v[t] / b[t]); });
        break;
      case Operation::negate: take(i.a, turn); break;
      case Operation::exp: chain([&](int t) { return v[t]; }); break;
      case Operation::expm1: chain([&](int t) { return v[t] + 1; }); break;
      case Operation::log: take(i.a, [&](int t, Real g) { return g / a[t]; }); break;
      case Operation::log1p: chain([&](int t) { return 1 / (1 + a[t]); }); break;
      case Operation::sqrt: take(i.a, [&](int t, Real g) { return g / (2 * v[t]); }); break;
      case Operation::sin: chain([&](int t) { return std::cos(a[t]); }); break;
      case Operation::cos: chain([&](int t) { return -std::sin(a[t]); }); break;
      case Operation::atan: chain([&](int t) { return 1 / (1 + a[t] * a[t]); }); break;
      case Operation::sinh: chain([&](int t) { return std::cosh(a[t]); }); break;
      case Operation::cosh: chain([&](int t) { return std::sinh(a[t]); }); break;
      case Operation::tanh: chain([&](int t) { return 1 - v[t] * v[t]; }); break;
      case Operation::sigmoid: chain([&](int t) { return v[t] * (1 - v[t]); }); break;
      case Operation::softplus:
        chain([&](int t) { return a[t] > k_i ? Real(1) : 1 / (1 + std::exp(-a[t])); });
        break;
      case Operation::abs: chain([&](int t) { return sign(a[t]); }); break;
      case Operation::power: chain([&](int t) { return k_i * std::pow(a[t], k_i - 1); }); break;
      case Operation::power_of:
        chain([&](int t) {
          return b[t] == 0 ? Real(0) : b[t] * std::pow(a[t], b[t] - 1);
        });
        take(i.b, [&](int t, Real g) {
          return g * (a[t] == 0 && b[t] >= 0 ? Real(0) : v[t] * std::log(a[t]));
        });
        break;
      // Equal operands share the adjoint, as in torch; at its bounds a clamp lets it through.
      case Operation::maximum:
      case Operation::minimum: {
        const auto share = [&, larger = i.operation == Operation::maximum](int t) {
          return a[t] == b[t] ? Real(0.5) : Real(larger ? a[t] > b[t] : a[t] < b[t]);
        };
        take(i.a, [&](int t, Real g) { return g * share(t); });
        take(i.b, [&](int t, Real g) { return g * (1 - share(t)); });
        break;
      }
      case Operation::clamp_min: choose(take, i.b, i.a, [&](int t) { return a[t] < b[t]; }); break;
      case Operation::clamp_max: choose(take, i.b, i.a, [&](int t) { return a[t] > b[t]; }); break;
      case Operation::where: choose(take, i.b, i.c, [&](int t) { return a[t] != 0; }); break;
      case Operation::input:
      case Operation::array:
      case Operation::constant:
      case Operation::unknown:
      case Operation::sign:
      case Operation::less:
      case Operation::less_equal:
      case Operation::equal: break;
    }
  }

  // The partials of a choice between two operands.
  template <class Take, class Holds>
  static void choose(Take take, int first, int second, Holds holds) {
    take(first, [&](int t, Real g) { return holds(t) ? g : Real(0); });
    take(second, [&](int t, Real g) { return holds(t) ? Real(0) : g; });
  }

  // Adds a partial times g; with LeavesOut nothing where g is zero. The sum is chosen and not its
  // term, whose product would be rounded or not as the compiler takes it for this length of a tile.
  template <bool LeavesOut> static void add(Real& to, Real g, Real term) {
    const Real sum = to + term;
    to = LeavesOut && g == 0 ? to : sum;
  }

  static Real sign(Real x) { return Real(x > 0) - Real(x < 0); }

  template <int T, class Body> static void each(Body body) {
#pragma GCC ivdep
    for (int t = 0; t < T; ++t) body(t);
  }

  std::vector<Instruction> instructions_;
  std::vector<int> results_;
  int unknowns_;
  std::vector<Real> arrays_;
  int64_t points_;
  bool leaves_out_;
};

}  // namespace hpctrain
