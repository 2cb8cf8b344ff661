// Networks of one depth side by side, on one tile of points: each has inputs and outputs of its own.
//
// Their outputs stand one after the other, as do, in each layer, the jets that enter it and its
// parameters in a gradient.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "network.hpp"

namespace hpctrain {

template <class Real> class TileNetworks {
 public:
  // A thread's memory: the jets of the outputs, their tangents, and their adjoints.
  struct Memory {
    typename TileNetwork<Real>::Memory network;
    Buffer<Real> jets, jets_dot, adjoint;
  };

  // At least one; of the same components and tiles.
  explicit TileNetworks(std::vector<TileNetwork<Real>> parts) : parts_(std::move(parts)) {}

  const std::vector<TileNetwork<Real>>& parts() const { return parts_; }
  int depth() const { return parts_[0].depth(); }
  int components() const { return parts_[0].components(); }
  int longest() const { return parts_[0].longest(); }
  int outputs() const {
    return int(sum([](const auto& part) { return int64_t(part.outputs()); }));
  }
  int64_t parameter_count(int first, int last) const {
    return sum([&](const auto& part) { return part.parameter_count(first, last); });
  }

  // The end of the last layer's parameters in theta.
  int64_t extent() const {
    int64_t end = 0;
    for (const auto& part : parts_) end = std::max(end, part.extent());
    return end;
  }

  // Numbers that a tile takes: of the jets that enter `layer`, and of the tape.
  int64_t entering_size(int layer) const {
    return sum([&](const auto& part) { return part.size_of(part.layer(layer).inputs); });
  }
  int64_t tape_size() const {
    return sum([](const auto& part) { return part.tape_size(); });
  }
  // Numbers of the sums of layers first..last.
  int64_t sums_size(int first, int last) const {
    return sum([&](const auto& part) { return part.sums_offset(first, last + 1); });
  }

  void reserve(Memory& m) const {
    for (const auto& part : parts_) part.reserve(m.network);
    for (Buffer<Real>* buffer : {&m.jets, &m.jets_dot, &m.adjoint})
      buffer->reserve(int64_t(outputs()) * components() * longest());
  }

  void set_parameters(const Real* theta) {
    for (auto& part : parts_) part.set_parameters(theta);
  }
  void set_direction(const Real* theta, const Real* v) {
    for (auto& part : parts_) part.set_direction(theta, v);
  }

  // The jets of the outputs, in m.jets; the tape may be null. activations: the tile's that enter
  // layer `first` > 0.
  template <int T>
  void forward_tile(const Tile& tile, int first, const Real* activations, Real* tape,
                    Memory& m) const {
    Real* jets = m.jets.data;
    for (const auto& part : parts_) {
      part.template forward_tile<T>(tile, first, activations, tape, m.network, jets);
      advance<T>(part, first, activations, tape, jets);
    }
  }

  // The jets that enter `layer`, entering_size(layer) numbers.
  template <int T>
  void prefix_tile(const Tile& tile, int layer, Memory& m, Real* activations) const {
    for (const auto& part : parts_) {
      const int64_t units = part.layer(layer).inputs;
      std::copy_n(part.template prefix_tile<T>(tile, layer, m.network), units * components() * T,
                  activations);
      activations += part.size_of(units);
    }
  }

  // The jets of the outputs and their tangents, in m.jets and m.jets_dot; the tape may be null.
  template <int T> void tangent_tile(const Tile& tile, Real* tape, Memory& m) const {
    Real *jets = m.jets.data, *jets_dot = m.jets_dot.data;
    for (const auto& part : parts_) {
      part.template tangent_tile<T>(tile, tape, m.network, jets, jets_dot);
      jets += rows(part) * T, jets_dot += rows(part) * T;
      if (tape) tape += part.tape_size();
    }
  }

  // Adds a tile's part of the gradients of layers first..last to the sums, for the outputs' adjoint
  // in m.adjoint.
  template <int T>
  void add_gradients(const Tile& tile, int first, int last, const Real* activations,
                     const Real* tape, Memory& m, Real* sums) const {
    const Real* adjoint = m.adjoint.data;
    for (const auto& part : parts_) {
      part.template reverse_tile<T>(
          tile, first, last, activations, tape, adjoint, m.network,
          [&](int l, const Real* y, const Real* w_bar) {
            part.template add_gradient<T>(l, y, w_bar, sums + part.sums_offset(first, l));
          });
      sums += part.sums_offset(first, last + 1);
      advance<T>(part, first, activations, tape, adjoint);
    }
  }

  // The gradients of layers first..last out of their sums.
  void collect(const Real* theta, int first, int last, const Real* sums, Real* gradient) const {
    for (int l = first; l <= last; ++l) {
      const Real* own = sums;
      for (const auto& part : parts_) {
        part.collect(theta, l, own + part.sums_offset(first, l), gradient);
        own += part.sums_offset(first, last + 1);
        gradient += part.parameter_count(l, l);
      }
    }
  }

  // The derivatives of Σ adjoint · jets at each of the tile's points, rows that are `stride` numbers
  // apart, for the outputs' adjoint in m.adjoint.
  template <int T>
  void write_rows(const Real* theta, const Tile& tile, const Real* tape, int64_t stride, Memory& m,
                  Real* rows_out) const {
    const Real *adjoint = m.adjoint.data, *none = nullptr;
    for (const auto& part : parts_) {
      part.template reverse_tile<T>(
          tile, 0, depth() - 1, none, tape, adjoint, m.network,
          [&](int l, const Real* y, const Real* w_bar) {
            part.template write_rows<T>(theta, l, y, w_bar, tile.stop - tile.start, stride,
                                        m.network, rows_out);
          });
      advance<T>(part, 0, none, tape, adjoint);
    }
  }

 private:
  template <class Count> int64_t sum(Count count) const {
    int64_t total = 0;
    for (const auto& part : parts_) total += count(part);
    return total;
  }

  // Rows of a part's jets.
  int64_t rows(const TileNetwork<Real>& part) const {
    return int64_t(part.outputs()) * components();
  }

  // Goes on from a part's data to those of the next one.
  template <int T, class Tape, class Jets>
  void advance(const TileNetwork<Real>& part, int first, const Real*& activations, Tape*& tape,
               Jets*& jets) const {
    if (activations) activations += part.size_of(part.layer(first).inputs);
    if (tape) tape += part.tape_size();
    jets += rows(part) * T;
  }

  std::vector<TileNetwork<Real>> parts_;
};

}  // namespace hpctrain
