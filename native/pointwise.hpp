// A residual as a short program over the jets of a tile's points, with its reverse sweep.
//
// Equations are written in torch; `hpctrain.kernels.pointwise` traces them into these instructions,
// so that a tile's residual is evaluated while its jets are in cache. Each value holds one number a
// point of a tile; instruction i makes value i out of earlier ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "simd.hpp"

namespace hpctrain {

enum class Operation { input, array, constant, add, subtract, multiply, divide, negate,
                       exp, expm1, log, log1p, sqrt, sin, cos, atan, sinh, cosh, tanh,
                       sigmoid, softplus, abs, sign, power, power_of, maximum, minimum,
                       clamp_min, clamp_max, less, less_equal, equal, where };

struct Instruction {
  Operation operation;
  int a, b, c;      // operands; for input the component, for array its row
  double constant;  // a number, the exponent of power, the threshold of softplus
};

// A residual r, the value of the last instruction.
template <class Real, int T> class PointwiseResidual {
 public:
  // arrays: (rows, points) row-major, numbers that belong to the points.
  PointwiseResidual(std::vector<Instruction> instructions, const Real* arrays, int64_t size,
                int64_t points)
      : instructions_(std::move(instructions)), arrays_(arrays, arrays + size), points_(points) {
    leaves_out_ = std::any_of(instructions_.begin(), instructions_.end(), [](const auto& i) {
      return i.operation == Operation::maximum || i.operation == Operation::minimum ||
             i.operation == Operation::clamp_min || i.operation == Operation::clamp_max ||
             i.operation == Operation::where;
    });
  }

  int64_t points() const { return points_; }

  // Numbers of working memory: the values and their adjoints.
  int64_t memory() const { return 2 * int64_t(instructions_.size()) * T; }

  // r of the points start .. stop-1, (T), where `memory` now holds it.
  const Real* forward(int64_t start, int64_t stop, const Real* jets, Real* memory) const {
    const int valid = int(stop - start);
    for (std::size_t k = 0; k < instructions_.size(); ++k) {
      const Instruction& i = instructions_[k];
      Real* v = memory + k * T;
      const Real *a = memory + i.a * T, *b = memory + i.b * T, *c = memory + i.c * T;
      const Real k_i = Real(i.constant);
      switch (i.operation) {
        case Operation::input: a = jets + i.a * T; each([&](int t) { v[t] = a[t]; }); break;
        case Operation::array:
          a = arrays_.data() + i.a * points_ + start;
          each([&](int t) { v[t] = a[t < valid ? t : valid - 1]; });
          break;
        case Operation::constant: each([&](int t) { v[t] = k_i; }); break;
        case Operation::add: each([&](int t) { v[t] = a[t] + b[t]; }); break;
        case Operation::subtract: each([&](int t) { v[t] = a[t] - b[t]; }); break;
        case Operation::multiply: each([&](int t) { v[t] = a[t] * b[t]; }); break;
        case Operation::divide: each([&](int t) { v[t] = a[t] / b[t]; }); break;
        case Operation::negate: each([&](int t) { v[t] = -a[t]; }); break;
        case Operation::exp: each([&](int t) { v[t] = std::exp(a[t]); }); break;
        case Operation::expm1: each([&](int t) { v[t] = std::expm1(a[t]); }); break;
        case Operation::log: each([&](int t) { v[t] = std::log(a[t]); }); break;
        case Operation::log1p: each([&](int t) { v[t] = std::log1p(a[t]); }); break;
        case Operation::sqrt: each([&](int t) { v[t] = std::sqrt(a[t]); }); break;
        case Operation::sin: each([&](int t) { v[t] = std::sin(a[t]); }); break;
        case Operation::cos: each([&](int t) { v[t] = std::cos(a[t]); }); break;
        case Operation::atan: each([&](int t) { v[t] = std::atan(a[t]); }); break;
        case Operation::sinh: each([&](int t) { v[t] = std::sinh(a[t]); }); break;
        case Operation::cosh: each([&](int t) { v[t] = std::cosh(a[t]); }); break;
        case Operation::tanh:
          for (int t = 0; t < T; t += lanes<Real>)
            store<Real>(v + t, hpctrain::tanh<Real>(load<Real>(a + t)));
          break;
        case Operation::sigmoid: each([&](int t) { v[t] = 1 / (1 + std::exp(-a[t])); }); break;
        case Operation::softplus:
          each([&](int t) { v[t] = a[t] > k_i ? a[t] : std::log1p(std::exp(a[t])); });
          break;
        case Operation::abs: each([&](int t) { v[t] = std::abs(a[t]); }); break;
        case Operation::sign: each([&](int t) { v[t] = sign(a[t]); }); break;
        case Operation::power: each([&](int t) { v[t] = std::pow(a[t], k_i); }); break;
        case Operation::power_of: each([&](int t) { v[t] = std::pow(a[t], b[t]); }); break;
        // NaN stays NaN in these four, as in torch.
        case Operation::maximum:
          each([&](int t) { v[t] = a[t] > b[t] || a[t] != a[t] ? a[t] : b[t]; });
          break;
        case Operation::minimum:
          each([&](int t) { v[t] = a[t] < b[t] || a[t] != a[t] ? a[t] : b[t]; });
          break;
        case Operation::clamp_min: each([&](int t) { v[t] = a[t] < b[t] ? b[t] : a[t]; }); break;
        case Operation::clamp_max: each([&](int t) { v[t] = a[t] > b[t] ? b[t] : a[t]; }); break;
        case Operation::less: each([&](int t) { v[t] = a[t] < b[t]; }); break;
        case Operation::less_equal: each([&](int t) { v[t] = a[t] <= b[t]; }); break;
        case Operation::equal: each([&](int t) { v[t] = a[t] == b[t]; }); break;
        case Operation::where: each([&](int t) { v[t] = a[t] != 0 ? b[t] : c[t]; }); break;
      }
    }
    return memory + (instructions_.size() - 1) * T;
  }

  // The adjoint of the jets, (inputs, T), after `forward` on the same memory, given that of r, (T).
  void reverse(const Real* seed, int inputs, Real* memory, Real* jets_bar) const {
    if (leaves_out_)
      pull_back<true>(seed, inputs, memory, jets_bar);
    else
      pull_back<false>(seed, inputs, memory, jets_bar);
  }

 private:
  // With LeavesOut an adjoint of zero adds zero, so that what is infinite or NaN in a branch that
  // `where` or a clamp leaves out does not reach the gradient.
  template <bool LeavesOut>
  void pull_back(const Real* seed, int inputs, Real* memory, Real* jets_bar) const {
    const int count = int(instructions_.size());
    const Real* values = memory;
    Real* bars = memory + int64_t(count) * T;
    for (int64_t k = 0; k < int64_t(count - 1) * T; ++k) bars[k] = 0;
    for (int64_t k = 0; k < int64_t(inputs) * T; ++k) jets_bar[k] = 0;
    Real* r_bar = bars + (count - 1) * T;
    each([&](int t) { r_bar[t] = seed[t]; });
    const auto kept = [](Real g, Real part) { return LeavesOut && g == 0 ? Real(0) : part; };
    for (int k = count - 1; k >= 0; --k) {
      const Instruction& i = instructions_[k];
      const Real *v = values + k * T, *g = bars + k * T;
      const Real *a = values + i.a * T, *b = values + i.b * T;
      Real *a_bar = bars + i.a * T, *b_bar = bars + i.b * T, *c_bar = bars + i.c * T;
      const Real k_i = Real(i.constant);
      // a_bar += g times the derivative of the operation.
      const auto chain = [&](auto derivative) {
        each([&](int t) { a_bar[t] += kept(g[t], g[t] * derivative(t)); });
      };
      switch (i.operation) {
        case Operation::input:
          a_bar = jets_bar + i.a * T;
          each([&](int t) { a_bar[t] += g[t]; });
          break;
        case Operation::array:
        case Operation::constant: break;
        case Operation::add: each([&](int t) { a_bar[t] += g[t]; b_bar[t] += g[t]; }); break;
        case Operation::subtract: each([&](int t) { a_bar[t] += g[t]; b_bar[t] -= g[t]; }); break;
        case Operation::multiply:
          each([&](int t) {
            a_bar[t] += kept(g[t], g[t] * b[t]);
            b_bar[t] += kept(g[t], g[t] * a[t]);
          });
          break;
        case Operation::divide:
          each([&](int t) {
            a_bar[t] += kept(g[t], g[t] / b[t]);
            b_bar[t] -= kept(g[t], g[t] * v[t] / b[t]);
          });
          break;
        case Operation::negate: each([&](int t) { a_bar[t] -= g[t]; }); break;
        case Operation::exp: chain([&](int t) { return v[t]; }); break;
        case Operation::expm1: chain([&](int t) { return v[t] + 1; }); break;
        case Operation::log: each([&](int t) { a_bar[t] += kept(g[t], g[t] / a[t]); }); break;
        case Operation::log1p: chain([&](int t) { return 1 / (1 + a[t]); }); break;
        case Operation::sqrt: each([&](int t) { a_bar[t] += kept(g[t], g[t] / (2 * v[t])); }); break;
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
          each([&](int t) {
            const Real slope = b[t] == 0 ? Real(0) : b[t] * std::pow(a[t], b[t] - 1);
            const Real growth = a[t] == 0 && b[t] >= 0 ? Real(0) : v[t] * std::log(a[t]);
            a_bar[t] += kept(g[t], g[t] * slope);
            b_bar[t] += kept(g[t], g[t] * growth);
          });
          break;
        // Equal operands share the adjoint, as in torch; at its bounds a clamp lets it through.
        case Operation::maximum:
          each([&](int t) {
            const Real share = a[t] == b[t] ? Real(0.5) : Real(a[t] > b[t]);
            a_bar[t] += g[t] * share;
            b_bar[t] += g[t] * (1 - share);
          });
          break;
        case Operation::minimum:
          each([&](int t) {
            const Real share = a[t] == b[t] ? Real(0.5) : Real(a[t] < b[t]);
            a_bar[t] += g[t] * share;
            b_bar[t] += g[t] * (1 - share);
          });
          break;
        case Operation::clamp_min:
          each([&](int t) { (a[t] < b[t] ? b_bar : a_bar)[t] += g[t]; });
          break;
        case Operation::clamp_max:
          each([&](int t) { (a[t] > b[t] ? b_bar : a_bar)[t] += g[t]; });
          break;
        case Operation::where: each([&](int t) { (a[t] != 0 ? b_bar : c_bar)[t] += g[t]; }); break;
        case Operation::sign:
        case Operation::less:
        case Operation::less_equal:
        case Operation::equal: break;
      }
    }
  }

  static Real sign(Real x) { return Real(x > 0) - Real(x < 0); }

  template <class Body> static void each(Body body) {
#pragma GCC ivdep
    for (int t = 0; t < T; ++t) body(t);
  }

  std::vector<Instruction> instructions_;
  std::vector<Real> arrays_;
  int64_t points_;
  bool leaves_out_;
};

}  // namespace hpctrain
