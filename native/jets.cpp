#include "jets.hpp"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include "simd.hpp"
#include "tile.hpp"

namespace hpctrain {

template <class Real> struct JetKernel<Real>::Buffer {
  Real* data = nullptr;
  int64_t size = 0;

  void reserve(int64_t wanted) {
    if (wanted <= size) return;
    std::free(data);
    size = wanted;
    const std::size_t bytes = (std::size_t(wanted) * sizeof(Real) + 63) / 64 * 64;
    data = static_cast<Real*>(std::aligned_alloc(64, bytes));
    if (!data) throw std::bad_alloc();
  }
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data); }
};

template <class Real> struct JetKernel<Real>::Weights {
  std::vector<std::vector<Real>> weight, transposed, bias;
};

template <class Real> struct JetKernel<Real>::Scratch {
  static constexpr int T = tile_points<Real>;
  Buffer w, y, w_bar, y_bar, jets, sums, tape, residual;
  Real squares[T];  // sums of r^2, one for each place in a tile
  Real seed[T];     // the adjoint of r

  void start_residual(const TileResidual<Real>& program) {
    residual.reserve(program.memory());
    std::fill_n(squares, T, Real(0));
  }

  void add_squares(const Tile& tile, const Real* r) {
    const int valid = int(tile.stop - tile.start);
    for (int t = 0; t < T; ++t) squares[t] += t < valid ? r[t] * r[t] : Real(0);
  }

  Real sum_squares() const {
    Vector<Real> sum = {};
    for (int t = 0; t < T; t += lanes<Real>) sum += load<Real>(squares + t);
    return sum_lanes<Real>(sum);
  }

  template <class Value> void seed_residual(const Tile& tile, Value value) {
    const int valid = int(tile.stop - tile.start);
    for (int t = 0; t < T; ++t) seed[t] = t < valid ? value(t) : Real(0);
  }
};

template <class Real>
JetKernel<Real>::JetKernel(std::vector<Layer> layers, std::vector<int> orders, Real time_step,
                           const Real* points, std::vector<int64_t> bounds, int threads)
    : layers_(std::move(layers)),
      orders_(std::move(orders)),
      time_step_(time_step),
      points_(points, points + int64_t(orders_.size()) * bounds.back()),
      bounds_(std::move(bounds)),
      threads_(threads),
      weights_(std::make_unique<Weights>()),
      tape_(std::make_unique<Buffer>()) {
  for (int order : orders_) {
    if (order == 2) seconds_ |= 1u << firsts_;
    firsts_ += order >= 1;
    components_ += order;
  }
  if (firsts_ > most_firsts)
    throw std::invalid_argument("at most 4 coordinates can have derivatives");
  for (const Layer& layer : layers_) widest_ = std::max({widest_, layer.inputs, layer.outputs});
  tile_of_chunk_.push_back(0);
  for (int64_t c = 0; c < chunks(); ++c) {
    const int64_t points_of_chunk = bounds_[c + 1] - bounds_[c];
    tile_of_chunk_.push_back(tile_of_chunk_[c] +
                             (points_of_chunk + tile_points<Real> - 1) / tile_points<Real>);
  }
  sums_start_.push_back(0);
  for (const Layer& layer : layers_)
    sums_start_.push_back(sums_start_.back() + sums_size<Real>(layer.outputs, layer.inputs));
  const int64_t tile = int64_t(widest_) * components_ * tile_points<Real>;
  const int64_t sums = sums_offset(0, int(layers_.size()));
  for (int t = 0; t < threads_; ++t) {
    auto s = std::make_unique<Scratch>();
    for (Buffer* buffer : {&s->w, &s->y, &s->w_bar, &s->y_bar, &s->jets}) buffer->reserve(tile);
    s->sums.reserve(sums);
    s->tape.reserve(tape_size());
    scratch_.push_back(std::move(s));
  }
}

template <class Real> JetKernel<Real>::~JetKernel() = default;

template <class Real> int64_t JetKernel<Real>::activation_size(int layer) const {
  return tile_of_chunk_.back() * layers_[layer].inputs * components_ * tile_points<Real>;
}

template <class Real> int64_t JetKernel<Real>::parameter_count(int first, int last) const {
  int64_t count = 0;
  for (int l = first; l <= last; ++l)
    count += int64_t(layers_[l].outputs) * (layers_[l].inputs + 1) +
             (layers_[l].scale_offset >= 0 ? 1 : 0);
  return count;
}

// Where the sums of `layer` stand among those of the layers from `first` on.
template <class Real> int64_t JetKernel<Real>::sums_offset(int first, int layer) const {
  return sums_start_[layer] - sums_start_[first];
}

// A tile's tape: w of every hidden layer (its value replaced by h = tanh w), then, for residual
// networks, the jets entering the output layer, from which the sweep recovers those below.
template <class Real> int64_t JetKernel<Real>::tape_offset(int layer) const {
  int64_t units = 0;
  for (int l = 0; l < layer; ++l) units += layers_[l].outputs;
  return units * components_ * tile_points<Real>;
}

template <class Real> int64_t JetKernel<Real>::tape_size() const {
  const int output = int(layers_.size()) - 1;
  return tape_offset(output) +
         int64_t(layers_[output].inputs) * components_ * tile_points<Real>;
}

// w = 10 a (W y + b) is a plain layer with weights 10 a W and bias 10 a b.
template <class Real> void JetKernel<Real>::fold_scales(const Real* theta) {
  const std::size_t count = layers_.size();
  weights_->weight.resize(count);
  weights_->transposed.resize(count);
  weights_->bias.resize(count);
  for (std::size_t l = 0; l < count; ++l) {
    const Layer& layer = layers_[l];
    const Real scale = layer.scale_offset >= 0 ? 10 * theta[layer.scale_offset] : Real(1);
    auto& weight = weights_->weight[l];
    auto& transposed = weights_->transposed[l];
    auto& bias = weights_->bias[l];
    weight.resize(std::size_t(layer.outputs) * layer.inputs);
    transposed.resize(weight.size());
    bias.resize(layer.outputs);
    for (int r = 0; r < layer.outputs; ++r) {
      bias[r] = scale * theta[layer.bias_offset + r];
      for (int i = 0; i < layer.inputs; ++i) {
        const Real w = scale * theta[layer.weight_offset + std::ptrdiff_t(r) * layer.inputs + i];
        weight[std::size_t(r) * layer.inputs + i] = w;
        transposed[std::size_t(i) * layer.outputs + r] = w;
      }
    }
  }
}

// The jets of the coordinates themselves; padding repeats the last point, its adjoint will be zero.
template <class Real>
void JetKernel<Real>::input_jets(const Tile& tile, Real* y) const {
  constexpr int T = tile_points<Real>;
  const int columns = components_ * T;
  int first = 1;
  for (std::size_t d = 0; d < orders_.size(); ++d) {
    Real* row = y + d * columns;
    std::fill(row + T, row + columns, Real(0));
    const Real* coordinate = points_.data() + d * count();
    for (int64_t t = 0; t < T; ++t) row[t] = coordinate[std::min(tile.start + t, tile.stop - 1)];
    if (orders_[d] >= 1) {
      std::fill(row + first * T, row + (first + 1) * T, Real(1));
      ++first;
    }
  }
}

// Jets through a hidden layer's tanh; w is activated, y is the layer's input and becomes its output.
template <class Real>
void JetKernel<Real>::hidden_jets(const Layer& layer, Real* w, Real* y) const {
  activate<Real>(layer.outputs, components_ * tile_points<Real>, w);
  with_shape(firsts_, seconds_, [&](auto shape) {
    if (layer.residual)
      tanh_jets<Real, true>(shape, layer.outputs, time_step_, w, y);
    else
      tanh_jets<Real, false>(shape, layer.outputs, Real(1), w, y);
  });
}

template <class Real>
const Real* JetKernel<Real>::activations_of(const Tile& tile, int layer,
                                            const Real* activations) const {
  return activations +
         tile.number * int64_t(layers_[layer].inputs) * components_ * tile_points<Real>;
}

template <class Real>
void JetKernel<Real>::forward_tile(const Tile& tile, int first, const Real* activations, Real* tape,
                                   Scratch& s) const {
  const int columns = components_ * tile_points<Real>, output = int(layers_.size()) - 1;
  if (first == 0)
    input_jets(tile, s.y.data);
  else
    std::copy_n(activations_of(tile, first, activations), int64_t(layers_[first].inputs) * columns,
                s.y.data);
  for (int l = first; l < output; ++l) {
    const Layer& layer = layers_[l];
    Real* w = tape ? tape + tape_offset(l) : s.w.data;
    product(weights_->weight[l].data(), layer.outputs, layer.inputs, s.y.data, columns,
            weights_->bias[l].data(), w);
    hidden_jets(layer, w, s.y.data);
  }
  const Layer& layer = layers_[output];
  if (tape && output > first && layers_[output - 1].residual)
    std::copy_n(s.y.data, int64_t(layer.inputs) * columns, tape + tape_offset(output));
  product(weights_->weight[output].data(), layer.outputs, layer.inputs, s.y.data, columns,
          weights_->bias[output].data(), s.jets.data);
}

template <class Real>
template <class Take>
void JetKernel<Real>::reverse_tile(const Tile& tile, int first, int last, const Real* activations,
                                   const Real* tape, Scratch& s, Take take) const {
  const int columns = components_ * tile_points<Real>, output = int(layers_.size()) - 1;
  for (int l = output; l >= first; --l) {
    const Layer& layer = layers_[l];
    if (l < output) {
      const Real factor = layer.residual ? time_step_ : Real(1);
      with_shape(firsts_, seconds_, [&](auto shape) {
        tanh_reverse<Real>(shape, layer.outputs, factor, tape + tape_offset(l), s.y_bar.data,
                           s.w_bar.data);
      });
    }
    const Real* y = s.y.data;
    if (l == first && first > 0) {
      y = activations_of(tile, first, activations);
    } else if (l == first) {
      input_jets(tile, s.y.data);
    } else if (!layers_[l - 1].residual) {
      with_shape(firsts_, seconds_, [&](auto shape) {
        tanh_jets<Real, false>(shape, layer.inputs, Real(1), tape + tape_offset(l - 1), s.y.data);
      });
    } else if (l == output) {
      std::copy_n(tape + tape_offset(output), int64_t(layer.inputs) * columns, s.y.data);
    } else {
      with_shape(firsts_, seconds_, [&](auto shape) {
        tanh_jets<Real, true>(shape, layer.inputs, -time_step_, tape + tape_offset(l), s.y.data);
      });
    }
    if (l <= last) take(l, y);
    if (l == first) break;
    const Real* transposed = weights_->transposed[l].data();
    Real* y_bar = layer.residual ? s.w.data : s.y_bar.data;
    product(transposed, layer.inputs, layer.outputs, s.w_bar.data, columns,
            static_cast<const Real*>(nullptr), y_bar);
    if (layer.residual)
      for (int64_t k = 0; k < int64_t(layer.inputs) * columns; ++k) s.y_bar.data[k] += y_bar[k];
  }
}

// Takes the adaptive scale k = 10 a out of a layer's gradient (dW', db') by the folded weights:
// dW = k dW', db = k db', da = 10 (<W, dW'> + <b, db'>).
template <class Real>
void JetKernel<Real>::unfold_scale(const Real* theta, const Layer& layer, Real* gradient) const {
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

// A chunk's gradient out of its sums.
template <class Real>
void JetKernel<Real>::write_leaf(const Real* theta, int first, int last, const Scratch& s,
                                 Real* leaf) const {
  const Real* sums = s.sums.data;
  for (int l = first; l <= last; ++l) {
    sums = collect_gradient(sums, layers_[l].outputs, layers_[l].inputs, leaf);
    unfold_scale(theta, layers_[l], leaf);
    leaf += parameter_count(l, l);
  }
}

template <class Real>
template <class Begin, class Run, class End>
void JetKernel<Real>::for_each_chunk(int64_t first, int64_t last, Begin begin, Run run, End end) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
  for (int64_t c = first; c < last; ++c) {
    Scratch& s = *scratch_[omp_get_thread_num()];
    begin(s);
    Tile tile{tile_of_chunk_[c], bounds_[c], bounds_[c]};
    for (; tile.start < bounds_[c + 1]; tile.start = tile.stop, ++tile.number) {
      tile.stop = std::min<int64_t>(tile.start + tile_points<Real>, bounds_[c + 1]);
      run(tile, s);
    }
    end(c, s);
  }
}

template <class Real> void JetKernel<Real>::clear_sums(int first, int last, Scratch& s) const {
  std::fill_n(s.sums.data, sums_offset(first, last + 1), Real(0));
}

template <class Real>
void JetKernel<Real>::forward(const Real* theta, int first, const Real* activations, bool keep,
                              Real* jets) {
  fold_scales(theta);
  if (keep) tape_->reserve(tile_of_chunk_.back() * tape_size());
  const int outputs = layers_.back().outputs;
  const auto run = [&](const Tile& tile, Scratch& s) {
    forward_tile(tile, first, activations, keep ? tape_->data + tile.number * tape_size() : nullptr,
                 s);
    for (int c = 0; c < components_; ++c)
      for (int r = 0; r < outputs; ++r)
        std::copy_n(s.jets.data + (r * components_ + c) * tile_points<Real>, tile.stop - tile.start,
                    jets + (int64_t(c) * outputs + r) * count() + tile.start);
  };
  for_each_chunk(0, chunks(), [](Scratch&) {}, run, [](int64_t, Scratch&) {});
}

template <class Real>
void JetKernel<Real>::prefix(const Real* theta, int layer, Real* activations) {
  fold_scales(theta);
  const int columns = components_ * tile_points<Real>;
  const int64_t size = int64_t(layers_[layer].inputs) * columns;
  const auto run = [&](const Tile& tile, Scratch& s) {
    input_jets(tile, s.y.data);
    for (int l = 0; l < layer; ++l) {
      product(weights_->weight[l].data(), layers_[l].outputs, layers_[l].inputs, s.y.data, columns,
              weights_->bias[l].data(), s.w.data);
      hidden_jets(layers_[l], s.w.data, s.y.data);
    }
    std::copy_n(s.y.data, size, activations + tile.number * size);
  };
  for_each_chunk(0, chunks(), [](Scratch&) {}, run, [](int64_t, Scratch&) {});
}

template <class Real>
void JetKernel<Real>::reverse(const Real* theta, int first, int last, const Real* activations,
                              const Real* adjoint, Real* leaves) {
  constexpr int T = tile_points<Real>;
  const int64_t length = parameter_count(first, last);
  const int outputs = layers_.back().outputs;
  const auto run = [&](const Tile& tile, Scratch& s) {
    const int64_t valid = tile.stop - tile.start;
    for (int r = 0; r < outputs; ++r)
      for (int c = 0; c < components_; ++c) {
        Real* to = s.w_bar.data + (r * components_ + c) * T;
        std::copy_n(adjoint + (int64_t(c) * outputs + r) * count() + tile.start, valid, to);
        std::fill(to + valid, to + T, Real(0));
      }
    reverse_tile(tile, first, last, activations, tape_->data + tile.number * tape_size(), s,
                 [&](int l, const Real* y) { add_gradient(first, l, y, s); });
  };
  for_each_chunk(
      0, chunks(), [&](Scratch& s) { clear_sums(first, last, s); }, run,
      [&](int64_t c, Scratch& s) { write_leaf(theta, first, last, s, leaves + c * length); });
}

template <class Real>
void JetKernel<Real>::add_gradient(int first, int l, const Real* y, Scratch& s) const {
  const Layer& layer = layers_[l];
  accumulate_gradient(s.w_bar.data, layer.outputs, y, layer.inputs,
                      components_ * tile_points<Real>, s.sums.data + sums_offset(first, l));
}

// A layer's part of the Jacobian's rows of a tile: for every point the sum over components of
// w_bar y^T, and w_bar of the value for the bias.
template <class Real>
void JetKernel<Real>::write_rows(const Real* theta, int l, const Real* w_bar, const Real* y,
                                 int64_t valid, int64_t length, Real* rows) const {
  constexpr int T = tile_points<Real>;
  const Layer& layer = layers_[l];
  const int columns = components_ * T;
  const int64_t weights = int64_t(layer.outputs) * layer.inputs;
  Real* to = rows + layer.weight_offset;
  for (int r = 0; r < layer.outputs; ++r, w_bar += columns) {
    for (int i = 0; i < layer.inputs; ++i) {
      Real entry[T] = {};
      for (int c = 0; c < columns; c += T)
        for (int t = 0; t < T; ++t) entry[t] += w_bar[c + t] * y[i * columns + c + t];
      for (int64_t t = 0; t < valid; ++t) to[t * length + r * layer.inputs + i] = entry[t];
    }
    for (int64_t t = 0; t < valid; ++t) to[t * length + weights + r] = w_bar[t];
  }
  for (int64_t t = 0; t < valid; ++t) unfold_scale(theta, layer, to + t * length);
}

template <class Real>
void JetKernel<Real>::losses(const Real* theta, int first, const Real* activations,
                             const TileResidual<Real>& residual, Real* sums) {
  fold_scales(theta);
  const auto begin = [&](Scratch& s) { s.start_residual(residual); };
  const auto run = [&](const Tile& tile, Scratch& s) {
    forward_tile(tile, first, activations, nullptr, s);
    s.add_squares(tile, residual.forward(tile.start, tile.stop, s.jets.data, s.residual.data));
  };
  for_each_chunk(0, chunks(), begin, run,
                 [&](int64_t c, Scratch& s) { sums[c] = s.sum_squares(); });
}

template <class Real>
template <class Seed, class End>
void JetKernel<Real>::sweep_residual(const Real* theta, int first, int last,
                                     const Real* activations, const TileResidual<Real>& residual,
                                     Seed seed, End end) {
  fold_scales(theta);
  const int inputs = layers_.back().outputs * components_;
  const auto begin = [&](Scratch& s) {
    s.start_residual(residual);
    clear_sums(first, last, s);
  };
  const auto run = [&](const Tile& tile, Scratch& s) {
    forward_tile(tile, first, activations, s.tape.data, s);
    seed(tile, residual.forward(tile.start, tile.stop, s.jets.data, s.residual.data), s);
    residual.reverse(s.seed, inputs, s.residual.data, s.w_bar.data);
    reverse_tile(tile, first, last, activations, s.tape.data, s,
                 [&](int l, const Real* y) { add_gradient(first, l, y, s); });
  };
  for_each_chunk(0, chunks(), begin, run, end);
}

template <class Real>
void JetKernel<Real>::losses_and_gradients(const Real* theta, int first, int last,
                                           const Real* activations,
                                           const TileResidual<Real>& residual, Real* leaves) {
  const int64_t length = 1 + parameter_count(first, last);
  const auto run = [&](const Tile& tile, const Real* r, Scratch& s) {
    s.add_squares(tile, r);
    s.seed_residual(tile, [&](int t) { return 2 * r[t]; });
  };
  sweep_residual(theta, first, last, activations, residual, run, [&](int64_t c, Scratch& s) {
    leaves[c * length] = s.sum_squares();
    write_leaf(theta, first, last, s, leaves + c * length + 1);
  });
}

template <class Real>
void JetKernel<Real>::weighted_gradients(const Real* theta, const TileResidual<Real>& residual,
                                         const Real* weights, Real* leaves) {
  const int last = int(layers_.size()) - 1;
  const int64_t length = parameter_count(0, last);
  const auto run = [&](const Tile& tile, const Real*, Scratch& s) {
    s.seed_residual(tile, [&](int t) { return weights[tile.start + t]; });
  };
  sweep_residual(theta, 0, last, nullptr, residual, run, [&](int64_t c, Scratch& s) {
    write_leaf(theta, 0, last, s, leaves + c * length);
  });
}

template <class Real>
void JetKernel<Real>::residuals(const Real* theta, const TileResidual<Real>& residual, Real* r) {
  fold_scales(theta);
  const auto run = [&](const Tile& tile, Scratch& s) {
    forward_tile(tile, 0, nullptr, nullptr, s);
    std::copy_n(residual.forward(tile.start, tile.stop, s.jets.data, s.residual.data),
                tile.stop - tile.start, r + tile.start);
  };
  for_each_chunk(0, chunks(), [&](Scratch& s) { s.start_residual(residual); }, run,
                 [](int64_t, Scratch&) {});
}

template <class Real>
void JetKernel<Real>::jacobian(const Real* theta, const TileResidual<Real>& residual,
                               int64_t first_chunk, int64_t last_chunk, Real* rows) {
  fold_scales(theta);
  const int last = int(layers_.size()) - 1, inputs = layers_.back().outputs * components_;
  const int64_t length = 1 + parameter_count(0, last), start = bounds_[first_chunk];
  const auto run = [&](const Tile& tile, Scratch& s) {
    const int64_t valid = tile.stop - tile.start;
    forward_tile(tile, 0, nullptr, s.tape.data, s);
    const Real* r = residual.forward(tile.start, tile.stop, s.jets.data, s.residual.data);
    Real* own = rows + (tile.start - start) * length;
    for (int64_t t = 0; t < valid; ++t) own[t * length] = r[t];
    s.seed_residual(tile, [](int) { return Real(1); });
    residual.reverse(s.seed, inputs, s.residual.data, s.w_bar.data);
    reverse_tile(tile, 0, last, nullptr, s.tape.data, s, [&](int l, const Real* y) {
      write_rows(theta, l, s.w_bar.data, y, valid, length, own + 1);
    });
  };
  for_each_chunk(first_chunk, last_chunk, [&](Scratch& s) { s.start_residual(residual); }, run,
                 [](int64_t, Scratch&) {});
}

template class JetKernel<double>;
template class JetKernel<float>;

}  // namespace hpctrain
