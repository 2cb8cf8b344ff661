// A dense network on one tile of points: its jets, the reverse sweep, the tangent along parameters.
//
// The last tile of a chunk is shortened to a half or a quarter where its points fit: sums over
// points then leave out zeros, so that no bit depends on it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "inputs.hpp"
#include "rules.hpp"
#include "shapes.hpp"
#include "simd.hpp"
#include "tile.hpp"

namespace hpctrain {

// One linear map, with the activation behind it unless it is the output. Offsets into the flat
// parameters; scale_offset < 0 where the layer has no adaptive scale a (w = 10 a (W y + b)).
struct Layer {
  int inputs, outputs;
  std::ptrdiff_t weight_offset, bias_offset, scale_offset;
  bool residual;  // y <- y + time_step * f(w)
};

// The components of a jet. `compiled` shapes have tanh, first and pure second derivatives only.
template <class Real> struct JetShape {
  bool compiled;
  int firsts;
  unsigned seconds;  // bit j: a second derivative stands beside first derivative j
  Rules<Real> rules, tangents;
};

// The points start .. stop-1.
struct Tile {
  int64_t number, start, stop;
};

// Aligned memory that is not initialised.
template <class Real> struct Buffer {
  Real* data = nullptr;
  int64_t size = 0;

  void reserve(int64_t wanted) {
    if (wanted <= size) return;
    std::free(data);
    size = 0;
    const std::size_t bytes = (std::size_t(wanted) * sizeof(Real) + 63) / 64 * 64;
    data = static_cast<Real*>(std::aligned_alloc(64, bytes));
    if (!data) throw std::bad_alloc();
    size = wanted;
  }
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data); }
};

template <class Real> class TileNetwork {
 public:
  // A thread's memory for the jets and adjoints of a layer.
  struct Memory {
    Buffer<Real> w, y, w_bar, y_bar;
  };

  // longest: points of a tile. tangent_distance: from a component of w to its tangent; no layer's
  // jets are longer.
  TileNetwork(std::vector<Layer> layers, Activation activation, Real time_step,
              JetShape<Real> shape, InputJets<Real> inputs, int longest, int64_t tangent_distance)
      : layers_(std::move(layers)),
        activation_(activation),
        time_step_(time_step),
        shape_(std::move(shape)),
        inputs_(std::move(inputs)),
        longest_(longest),
        tangent_distance_(tangent_distance) {
    sums_start_.push_back(0);
    for (int l = 0; l < depth(); ++l)
      sums_start_.push_back(sums_start_.back() +
                            (by_entries(l)
                                 ? inputs_.sums_size(layers_[l].outputs)
                                 : sums_size<Real>(layers_[l].outputs, layers_[l].inputs)));
  }

  int depth() const { return int(layers_.size()); }
  int components() const { return shape_.rules.components(); }
  int longest() const { return longest_; }
  int outputs() const { return layers_.back().outputs; }
  const Layer& layer(int l) const { return layers_[l]; }

  // Numbers of parameters of layers first..last.
  int64_t parameter_count(int first, int last) const {
    int64_t count = 0;
    for (int l = first; l <= last; ++l)
      count += int64_t(layers_[l].outputs) * (layers_[l].inputs + 1) +
               (layers_[l].scale_offset >= 0 ? 1 : 0);
    return count;
  }

  // The end of the last layer's parameters in theta.
  int64_t extent() const {
    int64_t end = 0;
    for (int l = 0; l < depth(); ++l)
      end = std::max(end, int64_t(layers_[l].weight_offset) + parameter_count(l, l));
    return end;
  }

  // Where the sums of `layer` stand among those of the layers from `first` on.
  int64_t sums_offset(int first, int layer) const {
    return sums_start_[layer] - sums_start_[first];
  }

  // Numbers that hold so many units' jets on the longest tile.
  int64_t size_of(int64_t units) const { return units * components() * longest_; }

  // A tile's tape: of every hidden layer the jets of f(w), or the activated w where jets go by lists;
  // then, for residual networks, the jets that enter the output layer, from which the sweep recovers
  // those below.
  int64_t tape_size() const { return size_of(units_below(depth() - 1) + layers_.back().inputs); }

  void reserve(Memory& m) const {
    const int64_t inputs = layers_[0].inputs;
    int64_t size = std::max(by_entries(0) ? inputs * longest_ : size_of(inputs),
                            inputs_.entries() * longest_);
    for (const Layer& layer : layers_) size = std::max(size, size_of(layer.outputs));
    m.w.reserve(std::max(size, 2 * tangent_distance_));
    for (Buffer<Real>* buffer : {&m.y, &m.w_bar, &m.y_bar}) buffer->reserve(size);
  }

  // w = 10 a (W y + b) is a plain layer with weights 10 a W and bias 10 a b.
  void set_parameters(const Real* theta) {
    fold(theta, nullptr, folded_);
    transposed_.resize(layers_.size());
    for (int l = 0; l < depth(); ++l) {
      const auto [rows, inner] = std::pair(layers_[l].outputs, layers_[l].inputs);
      transposed_[l].resize(folded_[l].weight.size());
      for (int r = 0; r < rows; ++r)
        for (int i = 0; i < inner; ++i)
          transposed_[l][std::size_t(i) * rows + r] = folded_[l].weight[std::size_t(r) * inner + i];
    }
  }

  // The derivatives of these weights along v.
  void set_direction(const Real* theta, const Real* v) { fold(theta, v, folded_dot_); }

  // The jets of the output; the tape may be null. activations: the tile's that enter layer `first` >
  // 0.
  template <int T>
  void forward_tile(const Tile& tile, int first, const Real* activations, Real* tape, Memory& m,
                    Real* jets) const {
    const int output = depth() - 1;
    const Real* y = through_layers<T>(tile, first, output, activations, tape, m);
    keep_entering<T>(first, y, tape);
    linear<T>(folded_[output], output, y, jets);
  }

  // The jets that enter `layer`, in memory that the next call takes.
  template <int T>
  const Real* prefix_tile(const Tile& tile, int layer, Memory& m) const {
    return through_layers<T>(tile, 0, layer, nullptr, nullptr, m);
  }

  // Starts from the adjoint of the output; calls take(layer, y, w_bar) for the layers from last to
  // first, with the jets y that enter the layer and the adjoint of its w.
  template <int T, class Take>
  void reverse_tile(const Tile& tile, int first, int last, const Real* activations,
                    const Real* tape, const Real* adjoint, Memory& m, Take take) const {
    const int output = depth() - 1;
    Real *w_bar = m.w_bar.data, *y_bar = m.y_bar.data;
    std::copy_n(adjoint, int64_t(outputs()) * columns<T>(), w_bar);
    for (int l = output; l >= first; --l) {
      const Layer& layer = layers_[l];
      if (l < output) {
        // In place, so that less has to stay in cache; a layer that adds needs y_bar once more.
        if (!layer.residual) std::swap(w_bar, y_bar);
        pull_back<T>(layer, tape + tape_offset<T>(l), layer.residual ? y_bar : w_bar, w_bar);
      }
      const Real* y = entering<T>(tile, l, first, activations, tape, m);
      if (l <= last) take(l, y, w_bar);
      if (l == first) break;
      if (layer.residual)
        product<Real, T, true>(transposed_[l].data(), layer.inputs, layer.outputs, w_bar,
                               columns<T>(), nullptr, y_bar);
      else
        product<Real, T>(transposed_[l].data(), layer.inputs, layer.outputs, w_bar, columns<T>(),
                         nullptr, y_bar);
    }
  }

  // The jets of the output, and their tangents along the direction; the tape, as of forward_tile,
  // may be null.
  //
  // With K, k the folded weights and biases and K', k' their derivatives,
  //   w = K y + k,   w' = K y' + K' y + k'.
  template <int T>
  void tangent_tile(const Tile& tile, Real* tape, Memory& m, Real* jets, Real* jets_dot) const {
    Real *w = m.w.data, *w_dot = m.w.data + tangent_distance_, *y_dot = m.y_bar.data;
    const int output = depth() - 1;
    enter<T>(tile, 0, nullptr, m.y.data);
    for (int l = 0; l < output; ++l) {
      const Layer& layer = layers_[l];
      linear<T>(folded_[l], l, m.y.data, w);
      linear_dot<T>(l, m, w_dot);
      activate<Real, T>(activation_, layer.outputs, columns<T>(), w);
      const Rules<Real>& tangents = shape_.tangents;
      if (layer.residual)
        rule_jets<Real, T, true>(tangents, activation_, 0, layer.outputs, time_step_, w, y_dot);
      else
        rule_jets<Real, T, false>(tangents, activation_, 0, layer.outputs, Real(1), w, y_dot);
      const Real* y = hidden_jets<T, true>(layer, w, m.y.data);
      const int64_t size = int64_t(layer.outputs) * columns<T>();
      if (tape) std::copy_n(w, size, tape + tape_offset<T>(l));
      if (y != m.y.data) std::copy_n(y, size, m.y.data);
    }
    keep_entering<T>(0, m.y.data, tape);
    linear<T>(folded_[output], output, m.y.data, jets);
    linear_dot<T>(output, m, jets_dot);
  }

  // Adds a tile's part of the gradient of layer l to its sums.
  template <int T>
  void add_gradient(int l, const Real* y, const Real* w_bar, Real* sums) const {
    if (by_entries(l))
      inputs_.template accumulate<T>(w_bar, layers_[l].outputs, y, sums);
    else
      accumulate_gradient<Real, T>(w_bar, layers_[l].outputs, y, layers_[l].inputs, columns<T>(),
                                   sums);
  }

  // The gradient of layer l out of its sums.
  void collect(const Real* theta, int l, const Real* sums, Real* gradient) const {
    const Layer& layer = layers_[l];
    if (by_entries(l))
      inputs_.collect(sums, layer.outputs, gradient);
    else
      collect_gradient(sums, layer.outputs, layer.inputs, gradient);
    unfold_scale(theta, layer, gradient);
  }

  // A layer's part of the Jacobian's rows of a tile: for every point the sum over components of
  // w_bar y^T, and w_bar of the value for the bias. Rows are `stride` numbers apart.
  template <int T>
  void write_rows(const Real* theta, int l, const Real* y, const Real* w_bar, int64_t valid,
                  int64_t stride, Memory& m, Real* rows) const {
    const Layer& layer = layers_[l];
    const int64_t weights = int64_t(layer.outputs) * layer.inputs;
    Real *to = rows + layer.weight_offset, *entries = m.w.data;
    const int columns = this->columns<T>();
    for (int r = 0; r < layer.outputs; ++r, w_bar += columns) {
      if (by_entries(l)) {
        inputs_.template weight_rows<T>(w_bar, y, entries);
        for (int i = 0; i < layer.inputs; ++i)
          for (int64_t t = 0; t < valid; ++t)
            to[t * stride + int64_t(r) * layer.inputs + i] = entries[i * T + t];
      } else {
        for (int i = 0; i < layer.inputs; ++i) {
          Real entry[T] = {};
          for (int c = 0; c < columns; c += T)
            for (int t = 0; t < T; ++t) entry[t] += w_bar[c + t] * y[i * columns + c + t];
          for (int64_t t = 0; t < valid; ++t)
            to[t * stride + int64_t(r) * layer.inputs + i] = entry[t];
        }
      }
      for (int64_t t = 0; t < valid; ++t) to[t * stride + weights + r] = w_bar[t];
    }
    for (int64_t t = 0; t < valid; ++t) unfold_scale(theta, layer, to + t * stride);
  }

 private:
  struct Folded {
    std::vector<Real> weight, bias;
  };

  // Whether layer l takes the entries of the input jets, not a tile of them.
  bool by_entries(int l) const { return l == 0 && !shape_.compiled; }

  template <int T> int columns() const { return components() * T; }

  int64_t units_below(int layer) const {
    int64_t units = 0;
    for (int l = 0; l < layer; ++l) units += layers_[l].outputs;
    return units;
  }

  // Where the w of a layer stands on the tape.
  template <int T> int64_t tape_offset(int layer) const {
    return units_below(layer) * columns<T>();
  }

  // The folded weights at theta, or their derivatives along v: 10 a W, or 10 (a' W + a W').
  void fold(const Real* theta, const Real* v, std::vector<Folded>& folded) const {
    folded.resize(layers_.size());
    for (int l = 0; l < depth(); ++l) {
      const Layer& layer = layers_[l];
      const bool scales = layer.scale_offset >= 0;
      const Real scale = scales ? 10 * theta[layer.scale_offset] : Real(1);
      const Real growth = scales && v ? 10 * v[layer.scale_offset] : Real(0);
      const auto entry = [&](std::ptrdiff_t k) {
        return v ? growth * theta[k] + scale * v[k] : scale * theta[k];
      };
      const std::size_t count = std::size_t(layer.outputs) * layer.inputs;
      folded[l].weight.resize(count);
      folded[l].bias.resize(layer.outputs);
      for (std::size_t k = 0; k < count; ++k)
        folded[l].weight[k] = entry(layer.weight_offset + std::ptrdiff_t(k));
      for (int r = 0; r < layer.outputs; ++r) folded[l].bias[r] = entry(layer.bias_offset + r);
    }
  }

  // Takes the adaptive scale k = 10 a out of a layer's gradient (dW', db') by the folded weights:
  // dW = k dW', db = k db', da = 10 (<W, dW'> + <b, db'>).
  void unfold_scale(const Real* theta, const Layer& layer, Real* gradient) const {
    if (layer.scale_offset < 0) return;
    const int64_t count = int64_t(layer.outputs) * (layer.inputs + 1);
    const Real scale = 10 * theta[layer.scale_offset];
    const Real* parameters = theta + layer.weight_offset;
    Real inner = 0;
    for (int64_t k = 0; k < count; ++k) {
      inner += parameters[k] * gradient[k];
      gradient[k] *= scale;
    }
    gradient[count] = 10 * inner;
  }

  // What layer `first` takes.
  template <int T>
  void enter(const Tile& tile, int first, const Real* activations, Real* y) const {
    if (first > 0)
      std::copy_n(activations, int64_t(layers_[first].inputs) * columns<T>(), y);
    else if (by_entries(0))
      inputs_.template load<T>(tile.start, tile.stop, y);
    else
      inputs_.template fill<T>(tile.start, tile.stop, y);
  }

  // The jets that enter the output layer, for the tape of a residual network from layer `first` on.
  template <int T>
  void keep_entering(int first, const Real* y, Real* tape) const {
    const int output = depth() - 1;
    if (tape && output > first && layers_[output - 1].residual)
      std::copy_n(y, int64_t(layers_[output].inputs) * columns<T>(), tape + tape_offset<T>(output));
  }

  template <int T>
  void linear(const Folded& folded, int l, const Real* y, Real* w) const {
    const Layer& layer = layers_[l];
    if (by_entries(l))
      inputs_.template product<T>(folded.weight.data(), folded.bias.data(), layer.outputs, y, w);
    else
      product<Real, T>(folded.weight.data(), layer.outputs, layer.inputs, y, columns<T>(),
                       folded.bias.data(), w);
  }

  // w' of layer l, from y in m.y and y' in m.y_bar; that of the inputs is zero.
  template <int T>
  void linear_dot(int l, const Memory& m, Real* w_dot) const {
    linear<T>(folded_dot_[l], l, m.y.data, w_dot);
    if (l == 0) return;
    product<Real, T, true>(folded_[l].weight.data(), layers_[l].outputs, layers_[l].inputs,
                           m.y_bar.data, columns<T>(), nullptr, w_dot);
  }

  // The jets that enter layer `last`, in m.y or m.w or on the tape, which may be null.
  template <int T>
  const Real* through_layers(const Tile& tile, int first, int last, const Real* activations,
                             Real* tape, Memory& m) const {
    enter<T>(tile, first, activations, m.y.data);
    const Real* y = m.y.data;
    for (int l = first; l < last; ++l) {
      if (layers_[l].residual && y != m.y.data) {
        std::copy_n(y, int64_t(layers_[l].inputs) * columns<T>(), m.y.data);
        y = m.y.data;
      }
      Real* w = tape ? tape + tape_offset<T>(l) : y == m.w.data ? m.y.data : m.w.data;
      linear<T>(folded_[l], l, y, w);
      if (!shape_.compiled) activate<Real, T>(activation_, layers_[l].outputs, columns<T>(), w);
      y = hidden_jets<T, false>(layers_[l], w, m.y.data);
    }
    return y;
  }

  // The jets of a hidden layer's output: of layers that add, in y, which has those of its input.
  // Compiled shapes leave the jets of f(w) in w, others the activated w. Activated: w is, already.
  template <int T, bool Activated>
  const Real* hidden_jets(const Layer& layer, Real* w, Real* y) const {
    const int units = layer.outputs;
    if (!shape_.compiled) {
      if (layer.residual)
        rule_jets<Real, T, true>(shape_.rules, activation_, 1, units, time_step_, w, y);
      else
        rule_jets<Real, T, false>(shape_.rules, activation_, 1, units, Real(1), w, y);
      return y;
    }
    with_shape(shape_.firsts, shape_.seconds, [&](auto shape) {
      if (layer.residual)
        tanh_jets<Real, T, Activated, true>(shape, units, time_step_, w, y);
      else
        tanh_jets<Real, T, Activated, false>(shape, units, Real(1), w, y);
    });
    return layer.residual ? y : w;
  }

  // The adjoint of a hidden layer's w, out of that of its output and of what the tape has of it.
  template <int T>
  void pull_back(const Layer& layer, const Real* taped, const Real* y_bar, Real* w_bar) const {
    const Real factor = layer.residual ? time_step_ : Real(1);
    if (shape_.compiled)
      with_shape(shape_.firsts, shape_.seconds, [&](auto shape) {
        tanh_reverse<Real, T>(shape, layer.outputs, factor, taped, y_bar, w_bar);
      });
    else
      rule_reverse<Real, T>(shape_.rules, activation_, layer.outputs, factor, taped, y_bar, w_bar);
  }

  // The jets that enter layer l in the reverse sweep. Under a layer that adds, m.y holds those that
  // enter the layer above, which are more by what the tape has of layer l.
  template <int T>
  const Real* entering(const Tile& tile, int l, int first, const Real* activations,
                       const Real* tape, Memory& m) const {
    Real* y = m.y.data;
    if (l == first) {
      if (first > 0) return activations;
      enter<T>(tile, 0, nullptr, y);
      return y;
    }
    const int units = layers_[l].inputs;
    const int64_t size = int64_t(units) * columns<T>();
    const Real *below = tape + tape_offset<T>(l - 1), *own = tape + tape_offset<T>(l);
    if (!layers_[l - 1].residual) {
      if (shape_.compiled) return below;
      rule_jets<Real, T, false>(shape_.rules, activation_, 1, units, Real(1), below, y);
    } else if (l == depth() - 1) {
      std::copy_n(own, size, y);
    } else if (shape_.compiled) {
      for (int64_t k = 0; k < size; ++k) y[k] -= time_step_ * own[k];
    } else {
      rule_jets<Real, T, true>(shape_.rules, activation_, 1, units, -time_step_, own, y);
    }
    return y;
  }

  std::vector<Layer> layers_;
  Activation activation_;
  Real time_step_;
  JetShape<Real> shape_;
  InputJets<Real> inputs_;
  int longest_;
  int64_t tangent_distance_;
  std::vector<int64_t> sums_start_;
  std::vector<Folded> folded_, folded_dot_;
  std::vector<std::vector<Real>> transposed_;
};

}  // namespace hpctrain
