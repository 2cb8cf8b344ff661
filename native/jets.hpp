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

#include "pointwise.hpp"

namespace hpctrain {

// Points of a tile.
template <class Real> constexpr int tile_points = 256 / int(sizeof(Real));

template <class Real> using TileResidual = PointwiseResidual<Real, tile_points<Real>>;

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
  int64_t points_of(int64_t first_chunk, int64_t last_chunk) const {
    return bounds_[last_chunk] - bounds_[first_chunk];
  }
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

  // The sums of r^2 by chunk, (chunks); activations as for `forward`.
  void losses(const Real* theta, int first, const Real* activations,
              const TileResidual<Real>& residual, Real* sums);
  // By chunk the sum of r^2 and then its gradient, (chunks, 1 + parameter_count), tile after tile
  // forward and back, so that nothing leaves the cache.
  void losses_and_gradients(const Real* theta, int first, int last, const Real* activations,
                            const TileResidual<Real>& residual, Real* leaves);
  // The residuals (points).
  void residuals(const Real* theta, const TileResidual<Real>& residual, Real* r);
  // By chunk sum_j weights_j dr_j/dtheta, (chunks, parameters), for weights (points).
  void weighted_gradients(const Real* theta, const TileResidual<Real>& residual,
                          const Real* weights, Real* leaves);
  // A row (r, dr/dtheta) for each point of the chunks from first_chunk to last_chunk - 1,
  // (points, 1 + parameters).
  void jacobian(const Real* theta, const TileResidual<Real>& residual, int64_t first_chunk,
                int64_t last_chunk, Real* rows);

 private:
  struct Buffer;   // aligned memory that is not initialised
  struct Weights;  // weights with the adaptive scale folded in, and their transposes
  struct Scratch;  // a thread's working memory

  // The points start .. stop-1, tile number `tile` of all.
  struct Tile {
    int64_t number, start, stop;
  };

  // For each chunk from first to last - 1, on any thread: begin(scratch), run(tile, scratch) for its
  // tiles in turn, and end(chunk, scratch).
  template <class Begin, class Run, class End>
  void for_each_chunk(int64_t first, int64_t last, Begin begin, Run run, End end);
  // Forward and back, tile by tile: seed(tile, r, scratch) sets the adjoint of the residuals r.
  template <class Seed, class End>
  void sweep_residual(const Real* theta, int first, int last, const Real* activations,
                      const TileResidual<Real>& residual, Seed seed, End end);
  void add_gradient(int first, int l, const Real* y, Scratch& s) const;
  void clear_sums(int first, int last, Scratch& s) const;
  void fold_scales(const Real* theta);
  void input_jets(const Tile& tile, Real* y) const;
  void hidden_jets(const Layer& layer, Real* w, Real* y) const;
  const Real* activations_of(const Tile& tile, int layer, const Real* activations) const;
  // Leaves the jets of the output in s.jets; the tape may be null.
  void forward_tile(const Tile& tile, int first, const Real* activations, Real* tape,
                    Scratch& s) const;
  // Starts from the adjoint of the output in s.w_bar; calls take(layer, y) for the layers from last
  // to first, with the adjoint of the layer's w in s.w_bar and the jets y that enter it.
  template <class Take>
  void reverse_tile(const Tile& tile, int first, int last, const Real* activations,
                    const Real* tape, Scratch& s, Take take) const;
  void unfold_scale(const Real* theta, const Layer& layer, Real* gradient) const;
  void write_rows(const Real* theta, int l, const Real* w_bar, const Real* y, int64_t valid,
                  int64_t length, Real* rows) const;
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
  std::vector<int64_t> bounds_, tile_of_chunk_, sums_start_;
  int threads_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Buffer> tape_;
  std::vector<std::unique_ptr<Scratch>> scratch_;

 public:
  ~JetKernel();
};

}  // namespace hpctrain
