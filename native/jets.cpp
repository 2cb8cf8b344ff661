#include "jets.hpp"

#include <omp.h>

#include <algorithm>
#include <stdexcept>
#include <type_traits>

namespace hpctrain {

// Calls run with the length of a tile of so many points as a constant: all, half, or a quarter.
template <class Real, class Run> inline void with_length(int64_t points, Run run) {
  constexpr int T = tile_points<Real>;
  if (points <= T / 4)
    run(std::integral_constant<int, T / 4>{});
  else if (points <= T / 2)
    run(std::integral_constant<int, T / 2>{});
  else
    run(std::integral_constant<int, T>{});
}

template <class Real> struct JetKernel<Real>::Scratch {
  static constexpr int most = tile_points<Real>;
  typename TileNetworks<Real>::Memory networks;
  Buffer<Real> sums, tape, residual, seeds, unknowns_bar;
  Real squares[most];  // sums of r^2, one for each place in a tile

  void reserve_residual(const Residual& program) {
    residual.reserve(program.memory() * most);
    seeds.reserve(int64_t(program.results()) * most);
    unknowns_bar.reserve(int64_t(program.unknowns()) * most);
  }

  void start_residual(const Residual& program) {
    std::fill_n(squares, most, Real(0));
    clear_unknowns(program);
  }

  void clear_unknowns(const Residual& program) {
    std::fill_n(unknowns_bar.data, int64_t(program.unknowns()) * most, Real(0));
  }

  template <int T> const Real* value(const Residual& program, int j) const {
    return program.template value<T>(j, residual.data);
  }

  template <int T> void add_squares(const Residual& program, const Tile& tile) {
    const int valid = int(tile.stop - tile.start);
    for (int j = 0; j < program.results(); ++j) {
      const Real* r = value<T>(program, j);
      for (int t = 0; t < T; ++t) squares[t] += t < valid ? r[t] * r[t] : Real(0);
    }
  }

  static Real sum_tile(const Real* values) {
    Vector<Real> sum = {};
    for (int t = 0; t < most; t += lanes<Real>) sum += load<Real>(values + t);
    return sum_lanes<Real>(sum);
  }

  void write_unknowns(const Residual& program, Real* gradient) const {
    for (int k = 0; k < program.unknowns(); ++k)
      gradient[k] = sum_tile(unknowns_bar.data + k * most);
  }

  // The adjoint of residual j at a tile's points; that of the padding is zero.
  template <int T, class Value> void seed(const Tile& tile, int j, Value value) {
    const int valid = int(tile.stop - tile.start);
    for (int t = 0; t < T; ++t) seeds.data[j * T + t] = t < valid ? value(t) : Real(0);
  }
};

template <class Real>
JetKernel<Real>::JetKernel(std::vector<TileNetwork<Real>> networks, std::vector<int64_t> bounds,
                           int threads)
    : networks_(std::move(networks)), bounds_(std::move(bounds)), threads_(threads) {
  tile_of_chunk_.push_back(0);
  for (int64_t c = 0; c < chunks(); ++c)
    tile_of_chunk_.push_back(tile_of_chunk_[c] + (bounds_[c + 1] - bounds_[c] +
                                                  networks_.longest() - 1) / networks_.longest());
  for (int t = 0; t < threads_; ++t) {
    auto s = std::make_unique<Scratch>();
    networks_.reserve(s->networks);
    s->sums.reserve(networks_.sums_size(0, depth() - 1));
    s->tape.reserve(networks_.tape_size());
    scratch_.push_back(std::move(s));
  }
}

template <class Real> JetKernel<Real>::~JetKernel() = default;

template <class Real>
template <class Begin, class Run, class End>
void JetKernel<Real>::for_each_chunk(int64_t first, int64_t last, Begin begin, Run run,
                                     End end) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
  for (int64_t c = first; c < last; ++c) {
    Scratch& s = *scratch_[omp_get_thread_num()];
    begin(s);
    Tile tile{tile_of_chunk_[c], bounds_[c], bounds_[c]};
    for (; tile.start < bounds_[c + 1]; tile.start = tile.stop, ++tile.number) {
      tile.stop = std::min<int64_t>(tile.start + networks_.longest(), bounds_[c + 1]);
      with_length<Real>(tile.stop - tile.start, [&](auto length) { run(length, tile, s); });
    }
    end(c, s);
  }
}

// A tile's jets as part of those of all points.
template <class Real>
template <int T>
void JetKernel<Real>::copy_out(const Tile& tile, const Real* from, Real* jets) const {
  for (int c = 0; c < components(); ++c)
    for (int r = 0; r < outputs(); ++r)
      std::copy_n(from + (r * components() + c) * T, tile.stop - tile.start,
                  jets + (int64_t(c) * outputs() + r) * count() + tile.start);
}

template <class Real>
void JetKernel<Real>::forward(const Real* theta, int first, const Real* activations, bool keep,
                              Real* jets) {
  networks_.set_parameters(theta);
  const int64_t size = networks_.tape_size();
  if (keep) {
    kept_from_ = -1;
    tape_.reserve(tile_of_chunk_.back() * size);
    kept_from_ = first;
  }
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    networks_.template forward_tile<T>(tile, first, entering(tile, first, activations),
                                      keep ? tape_.data + tile.number * size : nullptr, s.networks);
    copy_out<T>(tile, s.networks.jets.data, jets);
  };
  for_each_chunk(0, chunks(), [](Scratch&) {}, run, [](int64_t, Scratch&) {});
}

template <class Real>
void JetKernel<Real>::prefix(const Real* theta, int layer, Real* activations) {
  networks_.set_parameters(theta);
  const int64_t size = networks_.entering_size(layer);
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    networks_.template prefix_tile<T>(tile, layer, s.networks, activations + tile.number * size);
  };
  for_each_chunk(0, chunks(), [](Scratch&) {}, run, [](int64_t, Scratch&) {});
}

template <class Real>
void JetKernel<Real>::reverse(const Real* theta, int first, int last, const Real* activations,
                              const Real* adjoint, Real* leaves) {
  if (kept_from_ < 0 || kept_from_ > first)
    throw std::runtime_error("reverse needs a kept forward evaluation");
  networks_.set_parameters(theta);
  const int64_t length = parameter_count(first, last), size = networks_.tape_size();
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    const int64_t valid = tile.stop - tile.start;
    for (int r = 0; r < outputs(); ++r)
      for (int c = 0; c < components(); ++c) {
        Real* to = s.networks.adjoint.data + (r * components() + c) * T;
        std::copy_n(adjoint + (int64_t(c) * outputs() + r) * count() + tile.start, valid, to);
        std::fill(to + valid, to + T, Real(0));
      }
    networks_.template add_gradients<T>(tile, first, last, entering(tile, first, activations),
                                        tape_.data + tile.number * size, s.networks, s.sums.data);
  };
  const auto begin = [&](Scratch& s) {
    std::fill_n(s.sums.data, networks_.sums_size(first, last), Real(0));
  };
  for_each_chunk(0, chunks(), begin, run, [&](int64_t c, Scratch& s) {
    networks_.collect(theta, first, last, s.sums.data, leaves + c * length);
  });
}

template <class Real>
void JetKernel<Real>::tangent(const Real* theta, const Real* v, Real* jets_dot) {
  networks_.set_parameters(theta);
  networks_.set_direction(theta, v);
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    networks_.template tangent_tile<T>(tile, nullptr, s.networks);
    copy_out<T>(tile, s.networks.jets_dot.data, jets_dot);
  };
  for_each_chunk(0, chunks(), [](Scratch&) {}, run, [](int64_t, Scratch&) {});
}

// The residuals of a tile, in s.residual.
template <class Real>
template <int T>
void JetKernel<Real>::evaluate(const Real* theta, const Tile& tile, int first,
                               const Real* activations, Real* tape, const Residual& residual,
                               Scratch& s) const {
  networks_.template forward_tile<T>(tile, first, entering(tile, first, activations), tape,
                                     s.networks);
  residual.template forward<T>(tile.start, tile.stop, s.networks.jets.data, theta + parameters(),
                               s.residual.data);
}

// Threads' memory for a residual. What throws may not do so among the threads, which would end the
// process.
template <class Real> void JetKernel<Real>::reserve_residual(const Residual& residual) {
  for (const auto& s : scratch_) s->reserve_residual(residual);
}

template <class Real>
void JetKernel<Real>::losses(const Real* theta, int first, const Real* activations,
                             const Residual& residual, Real* sums) {
  networks_.set_parameters(theta);
  reserve_residual(residual);
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    evaluate<T>(theta, tile, first, activations, nullptr, residual, s);
    s.template add_squares<T>(residual, tile);
  };
  for_each_chunk(0, chunks(), [&](Scratch& s) { s.start_residual(residual); }, run,
                 [&](int64_t c, Scratch& s) { sums[c] = s.sum_tile(s.squares); });
}

template <class Real>
template <class Ahead, class End>
void JetKernel<Real>::sweep_residual(int first, int last, const Real* activations,
                                     const Residual& residual, Ahead ahead, End end) {
  reserve_residual(residual);
  const auto begin = [&](Scratch& s) {
    s.start_residual(residual);
    std::fill_n(s.sums.data, networks_.sums_size(first, last), Real(0));
  };
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    ahead(width, tile, s);
    residual.template reverse<T>(s.seeds.data, rows(), s.residual.data, s.networks.adjoint.data,
                                 s.unknowns_bar.data);
    networks_.template add_gradients<T>(tile, first, last, entering(tile, first, activations),
                                        s.tape.data, s.networks, s.sums.data);
  };
  for_each_chunk(0, chunks(), begin, run, end);
}

template <class Real>
void JetKernel<Real>::losses_and_gradients(const Real* theta, int first, int last,
                                           const Real* activations, const Residual& residual,
                                           bool unknowns_wanted, Real* leaves) {
  networks_.set_parameters(theta);
  const int64_t parameters = parameter_count(first, last);
  const int64_t length = 1 + parameters + (unknowns_wanted ? residual.unknowns() : 0);
  const auto ahead = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    evaluate<T>(theta, tile, first, activations, s.tape.data, residual, s);
    s.template add_squares<T>(residual, tile);
    for (int j = 0; j < residual.results(); ++j) {
      const Real* r = s.template value<T>(residual, j);
      s.template seed<T>(tile, j, [&](int t) { return 2 * r[t]; });
    }
  };
  sweep_residual(first, last, activations, residual, ahead, [&](int64_t c, Scratch& s) {
    Real* leaf = leaves + c * length;
    leaf[0] = s.sum_tile(s.squares);
    networks_.collect(theta, first, last, s.sums.data, leaf + 1);
    if (unknowns_wanted) s.write_unknowns(residual, leaf + 1 + parameters);
  });
}

// A chunk's gradient with respect to all of theta.
template <class Real>
void JetKernel<Real>::write_leaf(const Real* theta, const Residual& residual, const Scratch& s,
                                 Real* leaf) const {
  networks_.collect(theta, 0, depth() - 1, s.sums.data, leaf);
  s.write_unknowns(residual, leaf + parameters());
}

template <class Real>
void JetKernel<Real>::weighted_gradients(const Real* theta, const Residual& residual,
                                         const Real* weights, Real* leaves) {
  networks_.set_parameters(theta);
  const int results = residual.results();
  const int64_t length = parameters() + residual.unknowns();
  const auto ahead = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    evaluate<T>(theta, tile, 0, nullptr, s.tape.data, residual, s);
    for (int j = 0; j < results; ++j)
      s.template seed<T>(tile, j, [&](int t) { return weights[(tile.start + t) * results + j]; });
  };
  sweep_residual(0, depth() - 1, nullptr, residual, ahead, [&](int64_t c, Scratch& s) {
    write_leaf(theta, residual, s, leaves + c * length);
  });
}

// The residuals of a tile and their tangents along v, in s.residual.
template <class Real>
template <int T>
void JetKernel<Real>::evaluate_tangent(const Real* theta, const Real* v, const Tile& tile,
                                       Real* tape, const Residual& residual, Scratch& s) const {
  networks_.template tangent_tile<T>(tile, tape, s.networks);
  residual.template forward<T>(tile.start, tile.stop, s.networks.jets.data, theta + parameters(),
                               s.residual.data);
  residual.template tangent<T>(s.networks.jets_dot.data, v + parameters(), s.residual.data);
}

template <class Real>
void JetKernel<Real>::gauss_newton_products(const Real* theta, const Real* v,
                                            const Residual& residual, Real* leaves) {
  networks_.set_parameters(theta);
  networks_.set_direction(theta, v);
  const int64_t length = parameters() + residual.unknowns();
  const auto ahead = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    evaluate_tangent<T>(theta, v, tile, s.tape.data, residual, s);
    for (int j = 0; j < residual.results(); ++j) {
      const Real* r_dot = residual.template value_dot<T>(j, s.residual.data);
      s.template seed<T>(tile, j, [&](int t) { return r_dot[t]; });
    }
  };
  sweep_residual(0, depth() - 1, nullptr, residual, ahead, [&](int64_t c, Scratch& s) {
    write_leaf(theta, residual, s, leaves + c * length);
  });
}

template <class Real>
void JetKernel<Real>::residuals(const Real* theta, const Residual& residual, Real* r) {
  networks_.set_parameters(theta);
  reserve_residual(residual);
  const int results = residual.results();
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    evaluate<T>(theta, tile, 0, nullptr, nullptr, residual, s);
    for (int j = 0; j < results; ++j)
      for (int64_t k = tile.start; k < tile.stop; ++k)
        r[k * results + j] = s.template value<T>(residual, j)[k - tile.start];
  };
  for_each_chunk(0, chunks(), [&](Scratch& s) { s.start_residual(residual); }, run,
                 [](int64_t, Scratch&) {});
}

template <class Real>
void JetKernel<Real>::jacobian(const Real* theta, const Residual& residual, int64_t first_chunk,
                               int64_t last_chunk, Real* rows_out) {
  networks_.set_parameters(theta);
  reserve_residual(residual);
  const int results = residual.results();
  const int64_t length = 1 + parameters() + residual.unknowns(), start = bounds_[first_chunk];
  const int64_t stride = results * length;
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    const int64_t valid = tile.stop - tile.start;
    evaluate<T>(theta, tile, 0, nullptr, s.tape.data, residual, s);
    for (int j = 0; j < results; ++j) {
      Real* own = rows_out + (tile.start - start) * stride + j * length;
      for (int i = 0; i < results; ++i)
        s.template seed<T>(tile, i, [&](int) { return Real(i == j); });
      s.clear_unknowns(residual);
      residual.template reverse<T>(s.seeds.data, rows(), s.residual.data, s.networks.adjoint.data,
                                   s.unknowns_bar.data);
      networks_.template write_rows<T>(theta, tile, s.tape.data, stride, s.networks, own + 1);
      for (int64_t t = 0; t < valid; ++t) {
        own[t * stride] = s.template value<T>(residual, j)[t];
        for (int k = 0; k < residual.unknowns(); ++k)
          own[t * stride + 1 + parameters() + k] = s.unknowns_bar.data[k * s.most + t];
      }
    }
  };
  for_each_chunk(first_chunk, last_chunk, [&](Scratch& s) { s.start_residual(residual); }, run,
                 [](int64_t, Scratch&) {});
}

template <class Real>
void JetKernel<Real>::jacobian_product(const Real* theta, const Real* v,
                                       const Residual& residual, Real* product) {
  networks_.set_parameters(theta);
  networks_.set_direction(theta, v);
  reserve_residual(residual);
  const int results = residual.results();
  const auto run = [&](auto width, const Tile& tile, Scratch& s) {
    constexpr int T = decltype(width)::value;
    evaluate_tangent<T>(theta, v, tile, nullptr, residual, s);
    for (int j = 0; j < results; ++j) {
      const Real* r_dot = residual.template value_dot<T>(j, s.residual.data);
      for (int64_t k = tile.start; k < tile.stop; ++k)
        product[k * results + j] = r_dot[k - tile.start];
    }
  };
  for_each_chunk(0, chunks(), [&](Scratch& s) { s.start_residual(residual); }, run,
                 [](int64_t, Scratch&) {});
}

template class JetKernel<double>;
template class JetKernel<float>;

}  // namespace hpctrain
