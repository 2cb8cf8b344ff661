// Taylor-mode jets of dense networks and their reverse sweep to the parameter gradient.
//
// A jet carries a value and derivatives of every unit through the layers: the components, in the
// order of hpctrain/kernels/shape.py. Points are cut into chunks (the leaves of the summation tree)
// and chunks into tiles that stay in cache; a tile of T points is stored [unit][component][point],
// so that a layer is one small matrix product.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "networks.hpp"
#include "pointwise.hpp"

namespace hpctrain {

template <class Real> class JetKernel {
 public:
  using Residual = PointwiseResidual<Real>;

  // bounds: chunk c holds points bounds[c] .. bounds[c+1].
  JetKernel(std::vector<TileNetwork<Real>> networks, std::vector<int64_t> bounds, int threads);
  ~JetKernel();

  const std::vector<TileNetwork<Real>>& networks() const { return networks_.parts(); }
  const std::vector<int64_t>& bounds() const { return bounds_; }
  int threads() const { return threads_; }
  int depth() const { return networks_.depth(); }
  int components() const { return networks_.components(); }
  int outputs() const { return networks_.outputs(); }
  int64_t count() const { return bounds_.back(); }
  int64_t chunks() const { return int64_t(bounds_.size()) - 1; }
  int64_t points_of(int64_t first_chunk, int64_t last_chunk) const {
    return bounds_[last_chunk] - bounds_[first_chunk];
  }
  // Numbers that hold the jets entering layer `layer`, for all points, in tile order.
  int64_t activation_size(int layer) const {
    return tile_of_chunk_.back() * networks_.entering_size(layer);
  }
  // Numbers of parameters of layers first..last, and of all.
  int64_t parameter_count(int first, int last) const {
    return networks_.parameter_count(first, last);
  }
  int64_t parameters() const { return parameter_count(0, depth() - 1); }
  // The least length of a theta that has all of them.
  int64_t extent() const { return networks_.extent(); }

  // jets (components, outputs, points) from layer `first` on; activations (jets entering `first`) is
  // null for first == 0. With keep, the reverse sweep's data are kept on the tape.
  void forward(const Real* theta, int first, const Real* activations, bool keep, Real* jets);
  // The jets entering layer `layer`, into activations (activation_size(layer)).
  void prefix(const Real* theta, int layer, Real* activations);
  // Gradients of layers first..last by chunk: leaves (chunks, parameter_count), given the adjoint of
  // the jets of the last forward sweep that was kept, which must have started at `first`, at theta.
  void reverse(const Real* theta, int first, int last, const Real* activations, const Real* adjoint,
               Real* leaves);
  // The derivative of the jets along v (parameters), (components, outputs, points).
  void tangent(const Real* theta, const Real* v, Real* jets_dot);

  // In what follows theta ends with the residual's q unknowns; m is the number of its results.

  // The sums of r^2 by chunk, (chunks); activations as for `forward`.
  void losses(const Real* theta, int first, const Real* activations, const Residual& residual,
              Real* sums);
  // By chunk the sum of r^2, its gradient, and if wanted that for the unknowns, (chunks, 1 +
  // parameter_count + q), tile after tile forward and back, so that nothing leaves the cache.
  void losses_and_gradients(const Real* theta, int first, int last, const Real* activations,
                            const Residual& residual, bool unknowns_wanted, Real* leaves);
  // The residuals (points, m).
  void residuals(const Real* theta, const Residual& residual, Real* r);
  // By chunk sum_j weights_j dr_j/dtheta, (chunks, parameters + q), for weights (points, m).
  void weighted_gradients(const Real* theta, const Residual& residual, const Real* weights,
                          Real* leaves);
  // A row (r, dr/dtheta) for each residual of the points of chunks first_chunk .. last_chunk - 1,
  // (points, m, 1 + parameters + q).
  void jacobian(const Real* theta, const Residual& residual, int64_t first_chunk,
                int64_t last_chunk, Real* rows);
  // The derivative of the residuals along v (parameters + q), (points, m).
  void jacobian_product(const Real* theta, const Real* v, const Residual& residual, Real* product);
  // By chunk J^T J v, J the residuals' derivative, (chunks, parameters + q), in one sweep.
  void gauss_newton_products(const Real* theta, const Real* v, const Residual& residual,
                             Real* leaves);

 private:
  struct Scratch;  // a thread's working memory

  // For each chunk from first to last - 1, on any thread: begin(scratch), run(width, tile, scratch)
  // for its tiles in turn, with a constant width of T points, and end(chunk, scratch).
  template <class Begin, class Run, class End>
  void for_each_chunk(int64_t first, int64_t last, Begin begin, Run run, End end);
  void reserve_residual(const Residual& residual);
  // Forward and back, tile by tile: ahead(width, tile, scratch) evaluates the residuals of a tile,
  // with a tape, and sets their adjoints; activations and layers as for `reverse`.
  template <class Ahead, class End>
  void sweep_residual(int first, int last, const Real* activations, const Residual& residual,
                      Ahead ahead, End end);
  template <int T>
  void evaluate_tangent(const Real* theta, const Real* v, const Tile& tile, Real* tape,
                        const Residual& residual, Scratch& s) const;
  void write_leaf(const Real* theta, const Residual& residual, const Scratch& s, Real* leaf) const;
  template <int T>
  void evaluate(const Real* theta, const Tile& tile, int first, const Real* activations, Real* tape,
                const Residual& residual, Scratch& s) const;
  template <int T> void copy_out(const Tile& tile, const Real* from, Real* jets) const;
  // The tile's part of the jets that enter layer `first`, null for the first one.
  const Real* entering(const Tile& tile, int first, const Real* activations) const {
    return first > 0 ? activations + tile.number * networks_.entering_size(first) : nullptr;
  }
  int64_t rows() const { return int64_t(outputs()) * components(); }

  TileNetworks<Real> networks_;
  std::vector<int64_t> bounds_, tile_of_chunk_;
  int threads_;
  Buffer<Real> tape_;
  int kept_from_ = -1;  // the layer from which on the tape has data; -1 where it has none
  std::vector<std::unique_ptr<Scratch>> scratch_;
};

}  // namespace hpctrain
