// The jets that enter a network: constants of the points, most of them zero.
//
// Of bare coordinates only the values and each coordinate's own first derivative are not. Those
// that are not zero are entries (component, input); the first layer of shapes that go by lists
// works on these alone, so that it costs little however many coordinates and components there are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "simd.hpp"

namespace hpctrain {

struct InputEntry {
  int component, input, row;
};

template <class Real> class InputJets {
 public:
  // rows: (any number, count) row-major, among them that of each entry.
  InputJets(std::vector<InputEntry> entries, const Real* rows, int64_t size, int64_t count,
            int inputs, int components)
      : by_component_(std::move(entries)),
        rows_(rows, rows + size),
        count_(count),
        inputs_(inputs),
        components_(components) {
    const auto order = [](auto key) {
      return [key](const auto& a, const auto& b) { return key(a) < key(b); };
    };
    std::stable_sort(by_component_.begin(), by_component_.end(),
                     order([](const auto& e) { return e.component; }));
    for (int e = 0; e < int(by_component_.size()); ++e)
      by_input_.push_back({by_component_[e].component, by_component_[e].input, e});
    std::stable_sort(by_input_.begin(), by_input_.end(),
                     order([](const auto& e) { return e.input; }));
  }

  // How many there are.
  int64_t entries() const { return int64_t(by_component_.size()); }

  // The entries at the points start .. stop-1, (entries, T); padding repeats the last point, whose
  // adjoint will be zero.
  template <int T>
  void load(int64_t start, int64_t stop, Real* to) const {
    for (const InputEntry& entry : by_component_) {
      const Real* row = rows_.data() + entry.row * count_;
      for (int64_t t = 0; t < T; ++t) *to++ = row[std::min(start + t, stop - 1)];
    }
  }

  // All of the jets, zeros too, as a tile.
  template <int T>
  void fill(int64_t start, int64_t stop, Real* y) const {
    std::fill_n(y, int64_t(inputs_) * components_ * T, Real(0));
    for (const InputEntry& entry : by_component_) {
      const Real* row = rows_.data() + entry.row * count_;
      Real* to = y + (int64_t(entry.input) * components_ + entry.component) * T;
      for (int64_t t = 0; t < T; ++t) to[t] = row[std::min(start + t, stop - 1)];
    }
  }

  // out = W y, and b on the values, for a tile's entries y.
  template <int T>
  void product(const Real* weight, const Real* bias, int outputs, const Real* y, Real* out) const {
    int r = 0;
    for (; r + 4 <= outputs; r += 4)
      product_rows<T, 4>(weight + int64_t(r) * inputs_, bias + r, y,
                      out + int64_t(r) * components_ * T);
    for (; r < outputs; ++r)
      product_rows<T, 1>(weight + int64_t(r) * inputs_, bias + r, y,
                      out + int64_t(r) * components_ * T);
  }

  // Numbers that the sums of the first layer's gradient take.
  int64_t sums_size(int outputs) const { return int64_t(outputs) * (padded() + lanes<Real>); }

  // Adds a tile's part of the gradient: of each output the inputs' weights, then the bias by lanes.
  template <int T>
  void accumulate(const Real* adjoint, int outputs, const Real* y, Real* sums) const {
    using V = Vector<Real>;
    constexpr int L = lanes<Real>;
    for (int r = 0; r < outputs; ++r, adjoint += components_ * T, sums += padded() + L) {
      auto entry = by_input_.begin();
      for (int i = 0; i < inputs_; i += L) {
        V sum[L] = {};
        for (; entry != by_input_.end() && entry->input < i + L; ++entry)
          for (int t = 0; t < T; t += L)
            sum[entry->input - i] += load_of<T>(adjoint, entry->component, t) *
                                     load_of<T>(y, entry->row, t);
        store<Real>(sums + i, hpctrain::load<Real>(sums + i) + sum_each<Real>(sum));
      }
      V bias = hpctrain::load<Real>(sums + padded());
      for (int t = 0; t < T; t += L) bias += load_of<T>(adjoint, 0, t);
      store<Real>(sums + padded(), bias);
    }
  }

  // The gradient out of its sums: W by rows, then b.
  void collect(const Real* sums, int outputs, Real* gradient) const {
    for (int r = 0; r < outputs; ++r, sums += padded() + lanes<Real>) {
      std::copy_n(sums, inputs_, gradient + int64_t(r) * inputs_);
      gradient[int64_t(outputs) * inputs_ + r] =
          sum_lanes<Real>(hpctrain::load<Real>(sums + padded()));
    }
  }

  // What the adjoint of one output (components, T) gives each input's weight, by point: (inputs, T).
  template <int T>
  void weight_rows(const Real* adjoint, const Real* y, Real* rows) const {
    std::fill_n(rows, int64_t(inputs_) * T, Real(0));
    for (const InputEntry& entry : by_input_)
      for (int t = 0; t < T; ++t)
        rows[entry.input * T + t] += adjoint[entry.component * T + t] * y[entry.row * T + t];
  }

 private:
  int padded() const { return (inputs_ + lanes<Real> - 1) / lanes<Real> * lanes<Real>; }

  template <int T>
  static Vector<Real> load_of(const Real* tile, int row, int t) {
    return hpctrain::load<Real>(tile + int64_t(row) * T + t);
  }

  template <int T, int Rows>
  void product_rows(const Real* weight, const Real* bias, const Real* y, Real* out) const {
    using V = Vector<Real>;
    constexpr int L = lanes<Real>, vectors = T / L;
    auto entry = by_component_.begin();
    for (int c = 0; c < components_; ++c, out += T) {
      V sum[Rows][vectors];
      for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < vectors; ++v) sum[r][v] = V{} + (c == 0 ? bias[r] : Real(0));
      for (; entry != by_component_.end() && entry->component == c; ++entry, y += T)
        for (int r = 0; r < Rows; ++r)
          for (int v = 0; v < vectors; ++v)
            sum[r][v] += weight[int64_t(r) * inputs_ + entry->input] * load_of<T>(y, 0, v * L);
      for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < vectors; ++v)
          store<Real>(out + int64_t(r) * components_ * T + v * L, sum[r][v]);
    }
  }

  std::vector<InputEntry> by_component_;
  std::vector<InputEntry> by_input_;  // row: the place among those by component
  std::vector<Real> rows_;
  int64_t count_;
  int inputs_, components_;
};

}  // namespace hpctrain
