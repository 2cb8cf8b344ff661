// Taylor-mode jets of dense networks and their reverse sweep to the parameter gradient.
//
// A jet carries the value, first and second derivatives of every unit along each coordinate through
// the layers (components: value; first derivatives; second derivatives; each in coordinate order).
// Points are cut into chunks (the leaves of the summation tree) and chunks into tiles that stay in
// cache; a tile is stored [unit][component][point], so that a layer is one small matrix product.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace hpctrain {

// One linear map, with tanh behind it unless it is the output. Offsets into the flat parameters;
// scale_offset < 0 where the layer has no adaptive scale a (w = 10 a (W y + b)).
struct Layer {
  int inputs, outputs;
  std::ptrdiff_t weight_offset, bias_offset, scale_offset;
  bool residual;  // y <- y + time_step * tanh(w)
};

template <class Real> class JetKernel {
 public:
  // points: (coordinates, count) row-major. orders: highest derivative along each coordinate.
  // bounds: chunk c holds points bounds[c] .. bounds[c+1].
  JetKernel(std::vector<Layer> layers, std::vector<int> orders, Real time_step, const Real* points,
            std::vector<int64_t> bounds, int threads);

  int components() const { return components_; }
  int64_t count() const { return bounds_.back(); }
  int64_t chunks() const { return int64_t(bounds_.size()) - 1; }
  // Numbers that hold the jets entering layer `layer`, for all points, in tile order.
  int64_t activation_size(int layer) const;
  // Numbers of parameters of layers first..last.
  int64_t parameter_count(int first, int last) const;

  // jets (components, outputs, points) from layer `first` on; activations (jets entering `first`) is
  // null for first == 0. With keep, the reverse sweep's data are kept on the tape.
  void forward(const Real* theta, int first, const Real* activations, bool keep, Real* jets);
  // The jets entering layer `layer`, into activations (activation_size(layer)).
  void prefix(const Real* theta, int layer, Real* activations);
  // Gradients of layers first..last by chunk: leaves (chunks, parameter_count), given the adjoint of
  // the jets of the last forward sweep, which must have started at `first` and been kept.
  void reverse(const Real* theta, int first, int last, const Real* activations, const Real* adjoint,
               Real* leaves);

 private:
  struct Buffer;   // aligned memory that is not initialised
  struct Weights;  // weights with the adaptive scale folded in, and their transposes
  struct Scratch;  // a thread's working memory

  void fold_scales(const Real* theta);
  void input_jets(int64_t start, int64_t stop, Real* y) const;
  void hidden_jets(const Layer& layer, Real* w, Real* y) const;
  void forward_tile(int64_t tile, int64_t start, int64_t stop, int first, const Real* activations,
                    bool keep, Real* jets, Scratch& scratch);
  void reverse_tile(int64_t tile, int64_t start, int64_t stop, int first, int last,
                    const Real* activations, const Real* adjoint, Scratch& scratch);
  void write_leaf(const Real* theta, int first, int last, const Scratch& scratch, Real* leaf) const;
  int64_t sums_offset(int first, int layer) const;
  int64_t tape_size() const;
  int64_t tape_offset(int layer) const;

  std::vector<Layer> layers_;
  std::vector<int> orders_;
  int firsts_ = 0, components_ = 1, widest_ = 0;
  unsigned seconds_ = 0;  // bit j: a second derivative stands beside first derivative j
  Real time_step_;
  std::vector<Real> points_;
  std::vector<int64_t> bounds_, tile_of_chunk_;
  int threads_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Buffer> tape_;
  std::vector<std::unique_ptr<Scratch>> scratch_;

 public:
  ~JetKernel();
};

}  // namespace hpctrain
