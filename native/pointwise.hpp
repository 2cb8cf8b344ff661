// A residual as a short program over the jets of a tile's points, with its reverse sweep.
//
// Equations are written in torch; `hpctrain.kernels.pointwise` traces them into these instructions,
// so that a tile's residual is evaluated while its jets are in cache. Each value holds one number a
// point of a tile; instruction i makes value i out of earlier ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace hpctrain {

enum class Operation { input, array, constant, add, subtract, multiply, divide, negate,
                       exp, sin, cos, tanh, sqrt, log };

struct Instruction {
  Operation operation;
  int a, b;  // operands; for input the component, for array its row
  double constant;
};

// A residual r, the value of the last instruction.
template <class Real, int T> class PointwiseResidual {
 public:
  // arrays: (rows, points) row-major, numbers that belong to the points.
  PointwiseResidual(std::vector<Instruction> instructions, const Real* arrays, int64_t size,
                int64_t points)
      : instructions_(std::move(instructions)), arrays_(arrays, arrays + size), points_(points) {}

  int64_t points() const { return points_; }

  // Numbers of working memory: the values and their adjoints.
  int64_t memory() const { return 2 * int64_t(instructions_.size()) * T; }

  // r of the points start .. stop-1, (T), where `memory` now holds it.
  const Real* forward(int64_t start, int64_t stop, const Real* jets, Real* memory) const {
    const int valid = int(stop - start);
    for (std::size_t k = 0; k < instructions_.size(); ++k) {
      const Instruction& i = instructions_[k];
      Real* v = memory + k * T;
      const Real *a = memory + i.a * T, *b = memory + i.b * T;
      switch (i.operation) {
        case Operation::input: a = jets + i.a * T; each([&](int t) { v[t] = a[t]; }); break;
        case Operation::array:
          a = arrays_.data() + i.a * points_ + start;
          each([&](int t) { v[t] = a[t < valid ? t : valid - 1]; });
          break;
        case Operation::constant: each([&](int t) { v[t] = Real(i.constant); }); break;
        case Operation::add: each([&](int t) { v[t] = a[t] + b[t]; }); break;
        case Operation::subtract: each([&](int t) { v[t] = a[t] - b[t]; }); break;
        case Operation::multiply: each([&](int t) { v[t] = a[t] * b[t]; }); break;
        case Operation::divide: each([&](int t) { v[t] = a[t] / b[t]; }); break;
        case Operation::negate: each([&](int t) { v[t] = -a[t]; }); break;
        case Operation::exp: each([&](int t) { v[t] = std::exp(a[t]); }); break;
        case Operation::sin: each([&](int t) { v[t] = std::sin(a[t]); }); break;
        case Operation::cos: each([&](int t) { v[t] = std::cos(a[t]); }); break;
        case Operation::tanh: each([&](int t) { v[t] = std::tanh(a[t]); }); break;
        case Operation::sqrt: each([&](int t) { v[t] = std::sqrt(a[t]); }); break;
        case Operation::log: each([&](int t) { v[t] = std::log(a[t]); }); break;
      }
    }
    return memory + (instructions_.size() - 1) * T;
  }

  // The adjoint of the jets, (inputs, T), after `forward` on the same memory, given that of r, (T).
  void reverse(const Real* seed, int inputs, Real* memory, Real* jets_bar) const {
    const int count = int(instructions_.size());
    const Real* values = memory;
    Real* bars = memory + int64_t(count) * T;
    for (int64_t k = 0; k < int64_t(count - 1) * T; ++k) bars[k] = 0;
    for (int64_t k = 0; k < int64_t(inputs) * T; ++k) jets_bar[k] = 0;
    Real* r_bar = bars + (count - 1) * T;
    each([&](int t) { r_bar[t] = seed[t]; });
    for (int k = count - 1; k >= 0; --k) {
      const Instruction& i = instructions_[k];
      const Real *v = values + k * T, *g = bars + k * T;
      const Real *a = values + i.a * T, *b = values + i.b * T;
      Real *a_bar = bars + i.a * T, *b_bar = bars + i.b * T;
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
          each([&](int t) { a_bar[t] += g[t] * b[t]; b_bar[t] += g[t] * a[t]; });
          break;
        case Operation::divide:
          each([&](int t) { a_bar[t] += g[t] / b[t]; b_bar[t] -= g[t] * v[t] / b[t]; });
          break;
        case Operation::negate: each([&](int t) { a_bar[t] -= g[t]; }); break;
        case Operation::exp: each([&](int t) { a_bar[t] += g[t] * v[t]; }); break;
        case Operation::sin: each([&](int t) { a_bar[t] += g[t] * std::cos(a[t]); }); break;
        case Operation::cos: each([&](int t) { a_bar[t] -= g[t] * std::sin(a[t]); }); break;
        case Operation::tanh: each([&](int t) { a_bar[t] += g[t] * (1 - v[t] * v[t]); }); break;
        case Operation::sqrt: each([&](int t) { a_bar[t] += g[t] / (2 * v[t]); }); break;
        case Operation::log: each([&](int t) { a_bar[t] += g[t] / a[t]; }); break;
      }
    }
  }

 private:
  template <class Body> static void each(Body body) {
#pragma GCC ivdep
    for (int t = 0; t < T; ++t) body(t);
  }

  std::vector<Instruction> instructions_;
  std::vector<Real> arrays_;
  int64_t points_;
};

}  // namespace hpctrain
