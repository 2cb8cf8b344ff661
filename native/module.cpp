// Python bindings of the native kernels. Arrays come and go as CPU buffers; the GIL is released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "cholesky.hpp"
#include "dense.hpp"
#include "gram.hpp"
#include "jets.hpp"
#include "pairs.hpp"
#include "panel.hpp"
#include "simd.hpp"

namespace nb = nanobind;
using namespace hpctrain;

namespace {

// Arguments that are written are noconvert: nanobind would pass a copy of what is strided or of
// another precision, and the result would be lost.
template <class Real> using Array = nb::ndarray<Real, nb::c_contig, nb::device::cpu>;
template <class Real> using MaybeArray = std::optional<Array<Real>>;
using LayerTuple = std::tuple<int, int, int64_t, int64_t, int64_t, bool>;

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

template <class Real> const Real* optional_data(const MaybeArray<Real>& array, int64_t size) {
  if (!array) return nullptr;
  require(int64_t(array->size()) == size, "an array has the wrong size");
  return array->data();
}

using ProductTuple = std::tuple<double, std::vector<int>>;
using ComponentList = std::vector<std::vector<ProductTuple>>;
using EntryTuple = std::tuple<int, int, int>;

// The products of each component; factors are components, or tangents, which follow these.
template <class Real> Rules<Real> rules_of(const ComponentList& components, int64_t distance) {
  Rules<Real> rules;
  const int count = int(components.size());
  for (const auto& products : components) {
    for (const auto& [coefficient, factors] : products) {
      require(!factors.empty() && factors.size() <= most_factors, "a product has 1 to 5 factors");
      Product<Real> product{Real(coefficient), int(factors.size()), {}};
      for (int k = 0; k < product.degree; ++k)
        product.factors[k] = {factors[k] % count, factors[k] < count ? 0 : distance};
      rules.degree = std::max(rules.degree, product.degree);
      rules.products.push_back(product);
    }
    rules.starts.push_back(int(rules.products.size()));
  }
  return rules;
}

template <class Real>
TileNetwork<Real> network_of(const std::vector<LayerTuple>& layers, const std::string& activation,
                             double time_step, std::tuple<bool, int, unsigned> compiled,
                             const ComponentList& rules, const ComponentList& tangents,
                             const std::vector<EntryTuple>& entries, const Array<Real>& rows,
                             int parts) {
  require(parts == 1 || parts == 2 || parts == 4, "tiles are whole, halves or quarters");
  const int longest = tile_points<Real> / parts;
  const int components = int(rules.size());
  std::vector<Layer> list;
  int64_t distance = 0;
  for (const auto& [inputs, outputs, weight, bias, scale, residual] : layers) {
    list.push_back({inputs, outputs, weight, bias, scale, residual});
    distance = std::max(distance, int64_t(outputs) * components * longest);
  }
  require(!list.empty() && rows.ndim() == 2, "a network has layers, its inputs are (rows, count)");
  std::vector<InputEntry> jets;
  for (const auto& [component, input, row] : entries) {
    require(component < components && input < list[0].inputs && row < int(rows.shape(0)),
            "no such input");
    jets.push_back({component, input, row});
  }
  JetShape<Real> shape{std::get<0>(compiled), std::get<1>(compiled), std::get<2>(compiled),
                       rules_of<Real>(rules, distance), rules_of<Real>(tangents, distance)};
  InputJets<Real> inputs(std::move(jets), rows.data(), rows.size(), rows.shape(1), list[0].inputs,
                         components);
  return {std::move(list), activation == "sin" ? Activation::sine : Activation::tanh,
          Real(time_step), std::move(shape), std::move(inputs), longest, distance};
}

template <class Real> void bind_jets(nb::module_& m, const char* name) {
  using Kernel = JetKernel<Real>;
  using Residual = PointwiseResidual<Real>;
  const auto require_theta = [](const Kernel& self, const Array<Real>& theta) {
    require(int64_t(theta.size()) >= self.extent(), "theta must have all parameters");
  };
  const auto require_residual = [=](const Kernel& self, const Residual& residual,
                                    const Array<Real>& theta) {
    require_theta(self, theta);
    require(residual.points() == self.count(), "the residual belongs to other points");
    require(int64_t(theta.size()) == self.parameters() + residual.unknowns(),
            "theta must be (parameters + unknowns,)");
  };
  const auto require_layers = [](const Kernel& self, int first, int last) {
    require(0 <= first && first <= last && last < self.depth(), "there are no such layers");
  };
  const auto require_jets = [](const Kernel& self, const Array<Real>& jets) {
    require(int64_t(jets.size()) == self.count() * self.outputs() * self.components(),
            "jets must be (components, outputs, count)");
  };
  // The activations that enter layer `first`; null for those of the inputs.
  const auto entering = [](const Kernel& self, int first, const MaybeArray<Real>& activations) {
    const Real* cached = optional_data<Real>(activations, self.activation_size(first));
    require(first == 0 || cached, "a suffix needs the activations that enter it");
    return cached;
  };
  nb::class_<Kernel>(m, name)
      .def("__init__",
           [](Kernel* self, const std::vector<LayerTuple>& layers, const std::string& activation,
              double time_step, std::tuple<bool, int, unsigned> compiled,
              const ComponentList& rules, const ComponentList& tangents,
              const std::vector<EntryTuple>& entries, Array<Real> rows,
              int parts, std::vector<int64_t> bounds, int threads) {
             require(threads >= 1, "there is at least one thread");
             require(!bounds.empty() && int64_t(rows.shape(1)) == bounds.back(),
                     "inputs must be (rows, count) with count = bounds[-1]");
             new (self) Kernel({network_of<Real>(layers, activation, time_step, compiled, rules,
                                                 tangents, entries, rows, parts)},
                               std::move(bounds), threads);
           })
      .def("__init__",
           [](Kernel* self, const std::vector<const Kernel*>& beside) {
             require(!beside.empty(), "networks beside each other are at least one");
             const Kernel& first = *beside[0];
             std::vector<TileNetwork<Real>> networks;
             for (const Kernel* each : beside)
               for (const TileNetwork<Real>& network : each->networks()) {
                 require(each->bounds() == first.bounds() && network.depth() == first.depth() &&
                             network.components() == first.components() &&
                             network.longest() == first.networks()[0].longest(),
                         "networks beside each other have one depth, jet, tile and cut of points");
                 networks.push_back(network);
               }
             new (self) Kernel(std::move(networks), first.bounds(), first.threads());
           })
      .def_prop_ro("components", &Kernel::components)
      .def("activation_size",
           [=](const Kernel& self, int layer) {
             require_layers(self, layer, layer);
             return self.activation_size(layer);
           })
      .def("parameter_count",
           [=](const Kernel& self, int first, int last) {
             require_layers(self, first, last);
             return self.parameter_count(first, last);
           })
      .def("forward",
           [=](Kernel& self, Array<Real> theta, int first, const MaybeArray<Real>& activations,
               bool keep, Array<Real> jets) {
             require_theta(self, theta);
             require_layers(self, first, first);
             require_jets(self, jets);
             const Real* cached = entering(self, first, activations);
             nb::gil_scoped_release release;
             self.forward(theta.data(), first, cached, keep, jets.data());
           },
           nb::arg("theta"), nb::arg("first"), nb::arg("activations").none().noconvert(),
           nb::arg("keep"), nb::arg("jets").noconvert())
      .def("prefix",
           [=](Kernel& self, Array<Real> theta, int layer, Array<Real> activations) {
             require_theta(self, theta);
             require_layers(self, layer, layer);
             require(int64_t(activations.size()) == self.activation_size(layer),
                     "activations have the wrong size");
             nb::gil_scoped_release release;
             self.prefix(theta.data(), layer, activations.data());
           },
           nb::arg("theta"), nb::arg("layer"), nb::arg("activations").noconvert())
      .def("reverse",
           [=](Kernel& self, Array<Real> theta, int first, int last,
               const MaybeArray<Real>& activations, Array<Real> adjoint, Array<Real> leaves) {
             require_theta(self, theta);
             require_layers(self, first, last);
             require_jets(self, adjoint);
             const Real* cached = entering(self, first, activations);
             require(int64_t(leaves.size()) == self.chunks() * self.parameter_count(first, last),
                     "leaves must be (chunks, parameters of the layers)");
             nb::gil_scoped_release release;
             self.reverse(theta.data(), first, last, cached, adjoint.data(), leaves.data());
           },
           nb::arg("theta"), nb::arg("first"), nb::arg("last"),
           nb::arg("activations").none().noconvert(), nb::arg("adjoint"),
           nb::arg("leaves").noconvert())
      .def("tangent",
           [=](Kernel& self, Array<Real> theta, Array<Real> v, Array<Real> jets) {
             require_theta(self, theta);
             require_theta(self, v);
             require_jets(self, jets);
             nb::gil_scoped_release release;
             self.tangent(theta.data(), v.data(), jets.data());
           },
           nb::arg("theta"), nb::arg("v"), nb::arg("jets").noconvert())
      .def("losses",
           [=](Kernel& self, Array<Real> theta, int first, const MaybeArray<Real>& activations,
               const Residual& residual, Array<Real> sums) {
             require_layers(self, first, first);
             const Real* cached = entering(self, first, activations);
             require(int64_t(sums.size()) == self.chunks(), "sums must be (chunks,)");
             require_residual(self, residual, theta);
             nb::gil_scoped_release release;
             self.losses(theta.data(), first, cached, residual, sums.data());
           },
           nb::arg("theta"), nb::arg("first"), nb::arg("activations").none().noconvert(),
           nb::arg("residual"), nb::arg("sums").noconvert())
      .def("losses_and_gradients",
           [=](Kernel& self, Array<Real> theta, int first, int last,
               const MaybeArray<Real>& activations, const Residual& residual,
               bool unknowns_wanted, Array<Real> leaves) {
             require_layers(self, first, last);
             const Real* cached = entering(self, first, activations);
             require(int64_t(leaves.size()) ==
                         self.chunks() * (1 + self.parameter_count(first, last) +
                                          (unknowns_wanted ? residual.unknowns() : 0)),
                     "leaves must be (chunks, 1 + parameters of the layers, and unknowns)");
             require_residual(self, residual, theta);
             nb::gil_scoped_release release;
             self.losses_and_gradients(theta.data(), first, last, cached, residual,
                                       unknowns_wanted, leaves.data());
           },
           nb::arg("theta"), nb::arg("first"), nb::arg("last"),
           nb::arg("activations").none().noconvert(), nb::arg("residual"),
           nb::arg("unknowns_wanted"), nb::arg("leaves").noconvert())
      .def("residuals",
           [=](Kernel& self, Array<Real> theta, const Residual& residual, Array<Real> r) {
             require_residual(self, residual, theta);
             require(int64_t(r.size()) == self.count() * residual.results(),
                     "residuals must be (points x results,)");
             nb::gil_scoped_release release;
             self.residuals(theta.data(), residual, r.data());
           },
           nb::arg("theta"), nb::arg("residual"), nb::arg("r").noconvert())
      .def("weighted_gradients",
           [=](Kernel& self, Array<Real> theta, const Residual& residual, Array<Real> weights,
               Array<Real> leaves) {
             require_residual(self, residual, theta);
             require(int64_t(weights.size()) == self.count() * residual.results() &&
                         leaves.size() == self.chunks() * theta.size(),
                     "weights must be (points x results,), leaves (chunks, parameters)");
             nb::gil_scoped_release release;
             self.weighted_gradients(theta.data(), residual, weights.data(), leaves.data());
           },
           nb::arg("theta"), nb::arg("residual"), nb::arg("weights"), nb::arg("leaves").noconvert())
      .def("jacobian",
           [=](Kernel& self, Array<Real> theta, const Residual& residual, int64_t first_chunk,
               int64_t last_chunk, Array<Real> rows) {
             require(0 <= first_chunk && first_chunk <= last_chunk && last_chunk <= self.chunks(),
                     "no such chunks");
             require_residual(self, residual, theta);
             require(int64_t(rows.size()) == self.points_of(first_chunk, last_chunk) *
                                                 residual.results() * int64_t(1 + theta.size()),
                     "rows must be (points x results, 1 + parameters)");
             nb::gil_scoped_release release;
             self.jacobian(theta.data(), residual, first_chunk, last_chunk, rows.data());
           },
           nb::arg("theta"), nb::arg("residual"), nb::arg("first_chunk"), nb::arg("last_chunk"),
           nb::arg("rows").noconvert())
      .def("jacobian_product",
           [=](Kernel& self, Array<Real> theta, Array<Real> v, const Residual& residual,
               Array<Real> product) {
             require_residual(self, residual, theta);
             require(v.size() == theta.size() &&
                         int64_t(product.size()) == self.count() * residual.results(),
                     "v must be as theta, the product (points x results,)");
             nb::gil_scoped_release release;
             self.jacobian_product(theta.data(), v.data(), residual, product.data());
           },
           nb::arg("theta"), nb::arg("v"), nb::arg("residual"), nb::arg("product").noconvert())
      .def("gauss_newton_products",
           [=](Kernel& self, Array<Real> theta, Array<Real> v, const Residual& residual,
               Array<Real> leaves) {
             require_residual(self, residual, theta);
             require(v.size() == theta.size() &&
                         leaves.size() == self.chunks() * theta.size(),
                     "v must be as theta, leaves (chunks, parameters)");
             nb::gil_scoped_release release;
             self.gauss_newton_products(theta.data(), v.data(), residual, leaves.data());
           },
           nb::arg("theta"), nb::arg("v"), nb::arg("residual"), nb::arg("leaves").noconvert());
}

using InstructionTuple = std::tuple<std::string, int, int, int, double>;

Operation operation_of(const std::string& name) {
  static const std::map<std::string, Operation> operations{
      {"input", Operation::input},           {"array", Operation::array},
      {"constant", Operation::constant},     {"unknown", Operation::unknown},
      {"add", Operation::add},               {"subtract", Operation::subtract},
      {"multiply", Operation::multiply},     {"divide", Operation::divide},
      {"negate", Operation::negate},         {"exp", Operation::exp},
      {"expm1", Operation::expm1},           {"log", Operation::log},
      {"log1p", Operation::log1p},           {"sqrt", Operation::sqrt},
      {"sin", Operation::sin},               {"cos", Operation::cos},
      {"atan", Operation::atan},             {"sinh", Operation::sinh},
      {"cosh", Operation::cosh},             {"tanh", Operation::tanh},
      {"sigmoid", Operation::sigmoid},       {"softplus", Operation::softplus},
      {"abs", Operation::abs},               {"sign", Operation::sign},
      {"power", Operation::power},           {"power_of", Operation::power_of},
      {"maximum", Operation::maximum},       {"minimum", Operation::minimum},
      {"clamp_min", Operation::clamp_min},   {"clamp_max", Operation::clamp_max},
      {"less", Operation::less},             {"less_equal", Operation::less_equal},
      {"equal", Operation::equal},           {"where", Operation::where}};
  const auto found = operations.find(name);
  require(found != operations.end(), "unknown operation");
  return found->second;
}

template <class Real> void bind_residual(nb::module_& m, const char* name) {
  using Residual = PointwiseResidual<Real>;
  nb::class_<Residual>(m, name)
      .def(
          "__init__",
          [](Residual* self, const std::vector<InstructionTuple>& instructions,
             std::vector<int> results, int unknowns, Array<Real> arrays) {
            require(arrays.ndim() == 2, "arrays must be (rows, points)");
            require(!results.empty(), "a residual needs results");
            std::vector<Instruction> list;
            for (const auto& [operation, a, b, c, constant] : instructions)
              list.push_back({operation_of(operation), a, b, c, constant});
            for (const int result : results)
              require(0 <= result && result < int(list.size()), "no such instruction");
            new (self) Residual(std::move(list), std::move(results), unknowns, arrays.data(),
                                arrays.size(), arrays.shape(1));
          },
          nb::arg("instructions"), nb::arg("results"), nb::arg("unknowns"), nb::arg("arrays"))
      .def_prop_ro("results", &Residual::results);
}

template <class Real> void bind_dense(nb::module_& m) {
  m.def("update_and_multiply",
        [](Array<Real> H, double scale, const MaybeArray<Real>& left,
           const MaybeArray<Real>& right, Array<Real> x, Array<Real> product,
           int threads) {
          require(H.ndim() == 2, "H must be a matrix");
          const int64_t rows = H.shape(0), columns = H.shape(1);
          require(int64_t(product.size()) == rows && int64_t(x.size()) == columns,
                  "shapes must be H (r, n), x (n,), product (r,)");
          const Real* l = optional_data<Real>(left, 2 * rows);
          const Real* r = optional_data<Real>(right, 2 * columns);
          require(!l == !r, "left and right go together");
          nb::gil_scoped_release release;
          update_and_multiply(H.data(), rows, columns, Real(scale), l, r, x.data(), product.data(),
                              threads);
        },
        nb::arg("H").noconvert(), nb::arg("scale"), nb::arg("left").none().noconvert(),
        nb::arg("right").none().noconvert(), nb::arg("x"), nb::arg("product").noconvert(),
        nb::arg("threads"),
        "H <- scale H + left right and product = H x, in one pass over the rows of H.");
  m.def("add_gram_sums",
        [](const std::vector<std::vector<Array<Real>>>& J, int64_t skipped, Array<Real> C,
           std::vector<int64_t> places, std::vector<int64_t> strides, int64_t height, int64_t n,
           int threads) {
          require(threads >= 1 && height > 0 && n >= 0, "there is a thread, and rows in a block");
          std::vector<std::vector<RowsOfJ<Real>>> parts;
          for (const auto& part : J) {
            parts.emplace_back();
            for (const auto& rows : part) {
              require(rows.ndim() == 2 && skipped >= 0 && int64_t(rows.shape(1)) == skipped + n,
                      "J must be of rows (k, skipped + n)");
              parts.back().push_back(
                  {rows.data() + skipped, int64_t(rows.shape(0)), int64_t(rows.shape(1))});
            }
          }
          const int64_t blocks = (n + height - 1) / height, count = int64_t(parts.size());
          require(count > 0 && (count & (count - 1)) == 0, "J must be in 2^k parts");
          require(height % product_rows == 0 && int64_t(places.size()) == blocks &&
                      int64_t(strides.size()) == blocks,
                  "block rows must be as many as C has, of whole tiles");
          for (int64_t b = 0; b < blocks; ++b) {
            const int64_t first = b * height, last = std::min(n, first + height);
            require(strides[b] >= last && places[b] >= 0 &&
                        places[b] + (last - first - 1) * strides[b] + last <= int64_t(C.size()),
                    "block rows must lie within C");
          }
          nb::gil_scoped_release release;
          add_gram_sums<Real>(parts, n, {C.data(), places.data(), strides.data(), height}, threads);
        },
        nb::arg("J"), nb::arg("skipped"), nb::arg("C").noconvert(), nb::arg("places"),
        nb::arg("strides"), nb::arg("height"), nb::arg("n"), nb::arg("threads"),
        "C += J^T J in the lower triangle of C, for the columns of J after those skipped, summed along"
        " the tree over parts of the rows.");
}

template <class Real> void bind_cholesky(nb::module_& m, const char* name) {
  using Rows = FactorRows<Real>;
  nb::class_<Rows>(m, name)
      .def(
          "__init__",
          [](Rows* self, Array<Real> A, const std::vector<int64_t>& own, int64_t n, int64_t height,
             double shift, Array<Real> L, int threads) {
            require(height > 0 && height % panel_width<Real> == 0, "block rows are whole panels");
            require(std::is_sorted(own.begin(), own.end()), "block rows must be in their order");
            int64_t given = 0, made = 0;
            for (const int64_t i : own) {
              require(0 <= i && i * height < n, "there is no such block row");
              const int64_t last = std::min(n, (i + 1) * height);
              given += (last - i * height) * last;
              made += FactorRow<Real>::size(i, height);
            }
            require(int64_t(A.size()) == given && int64_t(L.size()) == made,
                    "A and L must have the numbers of these block rows");
            new (self) Rows(A.data(), own, n, height, Real(shift), L.data(), threads);
          },
          nb::arg("A").noconvert(), nb::arg("own"), nb::arg("n"), nb::arg("height"),
          nb::arg("shift"), nb::arg("L").noconvert(), nb::arg("threads"), nb::keep_alive<1, 2>(),
          nb::keep_alive<1, 7>())
      .def(
          "eliminate",
          [](const Rows& self, Array<Real> known, int64_t j, int64_t first, int64_t last) {
            require(0 <= j && j < first &&
                        int64_t(known.size()) == FactorRow<Real>::size(j, self.height()),
                    "known must be block row j, above those from first on");
            nb::gil_scoped_release release;
            self.eliminate(known.data(), j, first, last);
          },
          nb::arg("known"), nb::arg("j"), nb::arg("first"), nb::arg("last"))
      .def(
          "factor_corner",
          [](const Rows& self, int64_t i) {
            require(self.holds(i), "there is no such block row");
            nb::gil_scoped_release release;
            self.factor_corner(i);
          },
          nb::arg("i"));
  m.def("solve_cholesky",
        [](const std::vector<Array<Real>>& L, int64_t height, Array<Real> x) {
          const int64_t n = x.size();
          require(height > 0 && height % panel_width<Real> == 0 &&
                      int64_t(L.size()) == (n + height - 1) / height,
                  "L must have all block rows");
          std::vector<const Real*> rows;
          for (const auto& row : L) {
            require(int64_t(row.size()) == FactorRow<Real>::size(rows.size(), height),
                    "block rows must have their sizes");
            rows.push_back(row.data());
          }
          nb::gil_scoped_release release;
          solve_cholesky<Real>(rows, n, height, x.data());
        },
        nb::arg("L"), nb::arg("height"), nb::arg("x").noconvert(), "x <- A^-1 x, A = L L^T.");
}

template <class Real> void bind_panels(nb::module_& m) {
  m.def("panel_transposed_product",
        [](Array<Real> V, Array<Real> x, std::vector<int64_t> bounds, Array<Real> sums,
           int threads) {
          require(V.ndim() == 2 && sums.ndim() == 2 && !bounds.empty(), "V, sums are matrices");
          require(bounds.front() >= 0 && bounds.back() <= int64_t(V.shape(0)) &&
                      std::is_sorted(bounds.begin(), bounds.end()) && x.size() == V.shape(0) &&
                      sums.shape(0) + 1 == bounds.size() && sums.shape(1) == V.shape(1),
                  "shapes must be V (r, b), x (r,), sums (parts, b), bounds within r");
          nb::gil_scoped_release release;
          panel_transposed_product<Real>(V.data(), V.shape(1), x.data(), bounds.data(),
                                         sums.shape(0), sums.data(), threads);
        },
        nb::arg("V"), nb::arg("x"), nb::arg("bounds"), nb::arg("sums").noconvert(),
        nb::arg("threads"),
        "sums[p] += the sum of x_i V[i] over the rows of part p.");
  m.def("panel_product",
        [](Array<Real> V, Array<Real> c, Array<Real> y, int threads) {
          require(V.ndim() == 2 && c.size() == V.shape(1) && y.size() == V.shape(0),
                  "shapes must be V (r, b), c (b,), y (r,)");
          nb::gil_scoped_release release;
          panel_product<Real>(V.data(), V.shape(0), V.shape(1), c.data(), y.data(), threads);
        },
        nb::arg("V"), nb::arg("c"), nb::arg("y").noconvert(), nb::arg("threads"), "y += V c.");
  m.def("add_outer_products",
        [](Array<Real> H, Array<Real> left, Array<Real> right, int threads) {
          require(H.ndim() == 2 && left.ndim() == 2 && right.ndim() == 2 &&
                      left.shape(0) == H.shape(0) && right.shape(1) == H.shape(1) &&
                      left.shape(1) == right.shape(0),
                  "shapes must be H (r, n), left (r, b), right (b, n)");
          nb::gil_scoped_release release;
          add_outer_products<Real>(H.data(), H.shape(0), H.shape(1), left.data(), left.shape(1),
                                   right.data(), threads);
        },
        nb::arg("H").noconvert(), nb::arg("left"), nb::arg("right"), nb::arg("threads"),
        "H += left right.");
}

// Vectors by their addresses: many arrays take longer to pass than to multiply.
template <class Real> std::vector<const Real*> vectors_at(const std::vector<uintptr_t>& addresses) {
  std::vector<const Real*> vectors;
  for (const uintptr_t address : addresses) vectors.push_back(reinterpret_cast<const Real*>(address));
  return vectors;
}

template <class Real> void bind_pairs(nb::module_& m) {
  m.def("pair_products",
        [](Array<Real> x, Array<Real> y, const std::vector<uintptr_t>& rows,
           Array<double> products) {
          require(y.size() == x.size() && products.size() == 2 * rows.size(),
                  "shapes must be x (n,), y (n,), products (rows, 2)");
          nb::gil_scoped_release release;
          pair_products<Real>(vectors_at<Real>(rows), x.data(), y.data(), x.size(),
                              products.data());
        },
        nb::arg("x"), nb::arg("y"), nb::arg("rows"), nb::arg("products").noconvert(),
        "products[r] = (v^T x, v^T y) in double precision, v (n,) at address rows[r].");
  m.def("pair_combination",
        [](Array<Real> out, Array<double> weights, double gamma, const std::vector<uintptr_t>& S,
           const std::vector<uintptr_t>& Y) {
          require(S.size() == Y.size() && weights.ndim() == 2 && out.ndim() == 2 &&
                      weights.shape(0) == out.shape(0) && weights.shape(1) == S.size(),
                  "shapes must be S, Y (k, n), weights (m, k), out (m, n)");
          nb::gil_scoped_release release;
          pair_combination<Real>(vectors_at<Real>(S), vectors_at<Real>(Y), gamma, weights.data(),
                                 out.shape(0), out.shape(1), out.data());
        },
        nb::arg("out").noconvert(), nb::arg("weights"), nb::arg("gamma"), nb::arg("S"),
        nb::arg("Y"),
        "out = weights times the rows Y - gamma S at these addresses, in double precision.");
}

}  // namespace

NB_MODULE(_kernels, m) {
  m.doc() = "Native kernels: jets of dense networks, sweeps over the dense inverse Hessian.";
  m.attr("description") = std::to_string(8 * vector_bytes) + "-bit vectors, OpenMP";
  bind_residual<double>(m, "PointwiseResidualDouble");
  bind_residual<float>(m, "PointwiseResidualFloat");
  bind_jets<double>(m, "JetKernelDouble");
  bind_jets<float>(m, "JetKernelFloat");
  bind_dense<double>(m);
  bind_dense<float>(m);
  bind_cholesky<double>(m, "FactorRowsDouble");
  bind_cholesky<float>(m, "FactorRowsFloat");
  bind_panels<double>(m);
  bind_panels<float>(m);
  bind_pairs<double>(m);
  bind_pairs<float>(m);
}
