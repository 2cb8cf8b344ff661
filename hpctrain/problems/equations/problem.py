"""Physics-informed training: weighted mean squares of residuals of equations and conditions.

    u(x) = G(x) + D(x) N(x; θ),   L(θ) = Σ_t w_t (1/N_t) Σ_j ω_j Σ_i r_ij(u)²

Residuals are written in torch; the kernels evaluate them with the network's jets and sweep back to
the gradient (`hpctrain.kernels.residual`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import Any

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.kernels import make_jet_evaluator, make_joint_evaluator
from hpctrain.kernels.jets import JetEvaluator, JetShape
from hpctrain.kernels.residual import Residual, ResidualLoss, make_residual_loss
from hpctrain.linalg.arrays import CPU, to_array
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.joint import JointNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import unknowns as unknown_values
from hpctrain.problems.equations.adaptive.options import AdaptOptions
from hpctrain.problems.equations.adaptive.renewal import PinnRenewal
from hpctrain.problems.equations.checks.cautions import list_cautions
from hpctrain.problems.equations.checks.guard import guard_term, locate
from hpctrain.problems.equations.conditions import Observations
from hpctrain.problems.equations.conditions.base import AnyCondition, split_name
from hpctrain.problems.equations.conditions.boundary import Exactable
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.errors import ErrorMonitor, evaluate_references
from hpctrain.problems.equations.exact import exact_forms, periodic_inputs
from hpctrain.problems.equations.geometry import GeometryError
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.loss import PinnLoss, TermLoss, row_scale
from hpctrain.problems.equations.outputs import Outputs, Quantities
from hpctrain.problems.equations.parts import Part, check_forms, divide_fields
from hpctrain.problems.equations.points import Cluster, make_grid_points, move_into_clusters
from hpctrain.problems.equations.requests import (
    LANES,
    Trial,
    check_residual,
    lengthen,
    points_of,
    shape_for,
    try_out,
)
from hpctrain.problems.equations.scaling import NetworkInputs
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.terms import (
    EQUATION,
    ProblemError,
    Term,
    by_name,
    call_by_name,
)
from hpctrain.problems.equations.uncertainty import Uncertainty, estimate
from hpctrain.problems.outside import Outside

# Points a coordinate on which the maximum of a distance is found: odd, so that midpoints are there;
# above so many coordinates it is found among points inside.
MAXIMUM_GRID, MOST_GRIDDED, MANY = 41, 3, 100_000


@dataclass(frozen=True)
class Formulation:
    """How equations become a loss.

    Attributes:
        points: collocation points of the equation.
        condition_points: of a condition that names no number itself.
        is_soft: exact conditions and written forms are terms of the loss like any other.
        penalty: a factor of the weights of all conditions.
        scale_distance: divide distances by their maxima over the region.
        scale_inputs: the network takes coordinates scaled to [−1, 1].
        clusters: where collocation points lie denser.
        fourier: random frequencies (m, d) of further inputs of the network.
        adapt: what of the loss is renewed in the course of a run.
        separate: which fields have networks of their own; see `parts.divide_fields`.
    """

    points: int
    condition_points: int = 200
    is_soft: bool = False
    penalty: float = 1.0
    scale_distance: bool = False
    scale_inputs: bool = False
    clusters: Sequence[Cluster] = ()
    fourier: Tensor | None = None
    adapt: AdaptOptions | None = None
    separate: bool | Sequence[Sequence[str]] = False


class PinnProblem:
    """Equations, a network, and the points at which residuals are made small.

    Args:
        equations: checked.
        network: makes N for a number of inputs and of outputs.
        formulation: see there.
        dtype: the precision of all numbers.
        device: where the loss is evaluated.
    """

    def __init__(
        self,
        equations: Equations,
        network: DenseNetwork,
        formulation: Formulation,
        dtype: torch.dtype = torch.float64,
        device: torch.device = CPU,
    ) -> None:
        self.equations, self.formulation = equations, formulation
        self.frame = equations.frame
        points, soft = self._place_points(), formulation.is_soft
        self.forms = {} if soft else exact_forms(equations)
        check_forms(equations, self.forms)
        self.parts = divide_fields(equations, formulation.separate, soft)
        self.inputs = [self._list_inputs(part) for part in self.parts]
        self.network = JointNetwork.join(
            [
                replace(network, inputs=its.count, outputs=len(part.fields))
                for part, its in zip(self.parts, self.inputs, strict=True)
            ]
        )
        self._output_fields = [field for part in self.parts for field in part.fields]
        self.parameters = self.network.parameters + len(equations.unknowns)
        self._dtype, self._device = dtype, device
        self.first_terms = self._make_terms(points)
        self.terms = self.first_terms
        self.samples = sum(term.samples for term in self.terms)
        self._shares: dict[Holding, PinnLoss] = {}

    def _list_inputs(self, part: Part) -> NetworkInputs:
        """What the network of some fields takes."""
        f = self.formulation
        periodic = () if f.is_soft else periodic_inputs(self.equations)
        embedded = (*periodic, *part.flat)
        return NetworkInputs(self.frame, f.scale_inputs, embedded, f.fourier, part.coordinates)

    def _place_points(self) -> Tensor:
        """The equation's points (d, N)."""
        try:
            return place_interior_points(
                self.frame.region, self.formulation.points, self.move_into_clusters
            )
        except GeometryError as error:
            raise ProblemError(f"{self.frame.title}: {error}") from error

    def _make_terms(self, points: Tensor) -> list[Term]:
        """The equation's own term, and those of the conditions that the form does not meet."""
        f, equations, frame = self.formulation, self.equations, self.frame

        title = f"{frame.title}.residuals"
        place = locate(title, equations.residuals)

        def zero(at: Any, fields: Any, unknowns: Any) -> dict[str, Any]:
            returned = call_by_name(equations.residuals, at, fields, unknowns, place)
            return by_name(returned, "residual")

        terms = [guard_term(Term(EQUATION, points, zero), title, equations.residuals)]
        for name, condition in equations.named_conditions.items():
            if not self._is_met(condition):
                term = self._condition_term(name, condition)
                terms.append(replace(term, weight=term.weight * f.penalty))
        return terms

    def move_into_clusters(self, points: Tensor) -> Tensor:
        """Evenly distributed points (d, N) of the bounding box, denser where the job asks."""
        return move_into_clusters(points, self.frame.region.bounds, self.formulation.clusters)

    def _condition_term(self, name: str, condition: AnyCondition) -> Term:
        term = condition.term(self.frame, name, self.formulation.condition_points)
        return guard_term(term, f"{self.frame.title}: {name}", condition.written)

    @property
    def exact_terms(self) -> dict[str, Term]:
        """As terms, the conditions that are to hold by the forms of the fields."""
        return {
            name: self._condition_term(name, condition)
            for name, condition in self.equations.named_conditions.items()
            if self._is_met(condition) and isinstance(condition, Exactable)
        }

    def _is_met(self, condition: AnyCondition) -> bool:
        """Whether a condition holds by the form of the solution."""
        if self.formulation.is_soft:
            return False
        if condition.is_exact:
            return True
        if not isinstance(condition, Exactable):
            return False
        named = {split_name(name)[0] for name in condition.values}
        return named <= {field for field, form in self.forms.items() if form.is_written}

    @cached_property
    def trials(self) -> list[Trial]:
        """Each term, called once with made-up values."""
        return [try_out(term, self.frame) for term in self.terms]

    @cached_property
    def shapes(self) -> list[JetShape]:
        """The jet that each term needs."""
        return [shape_for(trial.components, self.frame) for trial in self.trials]

    @cached_property
    def _maxima(self) -> dict[str, float]:
        """What the distance of each field's form is divided by."""
        if not self.formulation.scale_distance or not self.forms:
            return {}
        region, d = self.frame.region, len(self.frame.axes.names)
        if d <= MOST_GRIDDED:
            points = make_grid_points(region.bounds, (MAXIMUM_GRID,) * d)
            points = points[:, region.contains(points)]
        else:
            points = place_interior_points(region, MANY)
        found = {field: float(form.distance(points).max()) for field, form in self.forms.items()}
        for field, maximum in found.items():
            if not 0 < maximum < math.inf:
                raise ProblemError(
                    f"{self.forms[field].place}: the largest distance of {field} in the domain is"
                    f" {maximum}: it must be positive and finite"
                )
        return found

    @property
    def cautions(self) -> tuple[str, ...]:
        """What is allowed, but hardly meant, a line each; see `checks.cautions`."""
        return tuple(list_cautions(self))

    def find_outside(self, points: Tensor) -> Tensor:
        """Which of some points (d, N) lie outside of the geometry, (N,)."""
        return self.frame.region.find_outside(points)

    def describe_outside(self, points: Tensor) -> str:
        """How many of some points (d, N) do; empty for none."""
        outside, names = Outside(), self.frame.axes.names
        x = dict(zip(names, to_array(points), strict=True))
        outside.note(to_array(self.find_outside(points)), x)
        return outside.describe(points.shape[1])

    @property
    def layers(self) -> list[LayerRange]:
        """The network's layers, for a decomposition of the parameters; unknowns are in the last."""
        layers = self.network.layers
        stops = [*(each.stop for each in layers[:-1]), self.parameters]
        return [
            LayerRange(
                each.start,
                stop,
                each.cost,
                tensors=(*each.tensors, *[stop - each.stop] * (stop > each.stop)),
            )
            for each, stop in zip(layers, stops, strict=True)
        ]

    def make_initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,)."""
        weights = self.network.make_initial_parameters(seed)
        theta = torch.cat([weights, unknown_values.starts(self.equations.unknowns)])
        return theta.to(self._device, self._dtype)

    def unknowns(self, theta: Tensor) -> dict[str, float]:
        """The values of the unknowns in θ (n,)."""
        taus = theta[self.network.parameters :].double()
        named = unknown_values.values(self.equations.unknowns, taus)
        return {name: float(value) for name, value in named.items()}

    def uncertainties(
        self, theta: Tensor, communicator: Communicator, chunks: int, threads: int
    ) -> dict[str, Uncertainty]:
        """Of the unknowns in θ (n,), see `uncertainty`; collective."""
        if not self.equations.unknowns:
            return {}
        objective = Objective.of(self, communicator, chunks, threads)
        conditions = self.equations.named_conditions
        measured = {n for n, each in conditions.items() if isinstance(each, Observations)}
        names = measured or {term.name for term in self.terms}
        rows = sum(
            self.rows_of(number) * term.samples
            for number, term in enumerate(self.terms)
            if term.name in names
        )
        own = self.share(chunks, communicator.rank, communicator.size, threads)
        total = communicator.sum_leaves(own.losses_of(theta, names), chunks)
        return estimate(objective, self.equations.unknowns, float(total) / rows, theta)

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> PinnLoss:
        """The loss over the chunks that rank `rank` of `ranks` holds, one for all that ask."""
        key = Holding(chunks, rank, ranks, threads)
        if key not in self._shares:
            self._shares[key] = self.make_share(self.terms, key)
        return self._shares[key]

    def replace_terms(self, terms: list[Term]) -> None:
        """Goes on with other points or weights, of as many samples, in all shares."""
        self.terms = terms
        for key, share in self._shares.items():
            share.take_terms(self.make_parts(terms, key))

    def make_share(self, terms: Sequence[Term], holding: Holding) -> PinnLoss:
        """The loss of other terms than those of now, over a rank's chunks."""
        first, last = holding.held
        rows = sum(self.rows_of(n) * term.samples for n, term in enumerate(terms))
        return PinnLoss(
            self.network,
            self.make_parts(terms, holding),
            last - first,
            self.parameters,
            rows,
            [term.samples for term in terms],
            self._dtype,
            self._device,
            holding.threads,
        )

    @property
    def adapt(self) -> AdaptOptions | None:
        """What of the loss is renewed in the course of a run."""
        return self.formulation.adapt

    def rows_of(self, number: int) -> int:
        """Residuals of each sample of a term."""
        return len(self.trials[number].values)

    def make_parts(self, terms: Sequence[Term], holding: Holding) -> list[TermLoss]:
        """The sums of terms over a rank's chunks."""
        parts, first_row = [], 0
        for number, term in enumerate(terms):
            bounds = holding.cut(term.samples)
            if bounds[-1] > bounds[0]:
                scale = row_scale(term.weight, term.samples, self.samples)
                parts.append(
                    self._term_loss(number, term, scale, bounds, first_row, holding.threads)
                )
            first_row += self.rows_of(number) * term.samples
        return parts

    def make_equation_residuals(self, points: Tensor, holding: Holding) -> ResidualLoss | None:
        """The equation's own residuals at points (d, M), as a rank holds them; None for none."""
        term = replace(self.first_terms[0], points=points)
        bounds = holding.cut(term.samples)
        if bounds[-1] == bounds[0]:
            return None
        return self._term_loss(0, term, 1.0, bounds, 0, holding.threads).loss

    def _term_loss(
        self,
        number: int,
        term: Term,
        scale: float,
        bounds: list[int],
        first_row: int,
        threads: int,
    ) -> TermLoss:
        """A term, its rows scaled, over its samples bounds[0] … bounds[-1] - 1."""
        shape, g = self.shapes[number], term.group
        first, last = bounds[0], bounds[-1]
        names = list(self.trials[number].values)
        points = term.points[:, g * first : g * last]
        own = [bound - first for bound in bounds]
        evaluator = self.evaluator(shape, points, [g * bound for bound in own], threads)

        def choose(chosen: Tensor) -> tuple[Residual, int]:
            count = len(chosen)
            return self._residual(term, shape, scale, chosen + first), count + -count % LANES

        residual, called = choose(torch.arange(last - first, device="cpu"))
        self._check(residual, names, shape, called, term)
        loss = make_residual_loss(
            evaluator,
            residual,
            self._dtype,
            unknowns=len(self.equations.unknowns),
            group=g,
            samples=called,
            choose=choose,
        )
        row = first_row + len(names) * first
        return TermLoss(term.name, loss, own, row, len(names), g > 1, number, first)

    def evaluator(
        self, shape: JetShape, points: Tensor, bounds: list[int], threads: int
    ) -> JetEvaluator:
        """The networks' jets at points (d, N), float64; along x unless `factors` says otherwise."""
        device, dtype = self._device, self._dtype
        if self._takes_plain(shape):
            values = self.inputs[0].values(points).to(device, dtype)
            return make_jet_evaluator(self.network.parts[0], shape, values, bounds, threads)
        jets = [its.jets(points, shape).to(device, dtype) for its in self.inputs]
        x = points.to(device, dtype)
        return make_joint_evaluator(self.network, shape, x, bounds, threads, jets)

    def _takes_plain(self, shape: JetShape) -> bool:
        """Whether there is one network, which takes one number for each coordinate."""
        its, d = self.inputs[0], len(self.frame.axes.names)
        is_plain = len(self.inputs) == 1 and its.is_plain and its.count == d
        return is_plain and not shape.laplacian

    def composition(self, shape: JetShape, points: Tensor) -> Composition:
        """Fields at points (d, …), float64, of the jets that an evaluator gives there."""
        factors = self.inputs[0].factors(shape) if self._takes_plain(shape) else ()
        return Composition(
            self.frame,
            self._output_fields,
            self.forms,
            shape,
            points,
            self._maxima,
            factors,
            self._dtype,
            self._device,
        )

    def _residual(self, term: Term, shape: JetShape, scale: float, own: Tensor) -> Residual:
        """The scaled rows of some samples of a term, as a function of the jet there."""
        at, normals = points_of(term, self.frame, own, self._dtype, self._device, lengthened=True)
        exact, _ = points_of(term, self.frame, own, torch.float64, lengthened=True)
        composition = self.composition(shape, exact.all)
        factor: float | Tensor = scale
        if term.sample_weights is not None:
            roots = scale * term.sample_weights[own].sqrt()
            factor = lengthen(roots).to(self._device, self._dtype)

        @wraps(term.written, updated=())
        def residual(jet: Any, taus: Any) -> tuple[Any, ...]:
            named = unknown_values.values(self.equations.unknowns, taus)
            rows = term.zero(at, composition.fields(jet, normals), named).values()
            is_one = isinstance(factor, float) and factor == 1
            return tuple(rows) if is_one else tuple(factor * row for row in rows)

        return residual

    def _check(
        self, residual: Residual, names: list[str], shape: JetShape, samples: int, term: Term
    ) -> None:
        """Evaluates a residual once, so that one which fails at a point does so before a run."""
        outputs, g = self.network.outputs, term.group
        size = (samples,) if g == 1 else (g, samples)
        device, dtype = self._device, self._dtype
        with torch.no_grad():
            taus = unknown_values.starts(self.equations.unknowns).to(device, dtype)
            jet = torch.zeros(shape.components, outputs, *size, dtype=dtype, device=device)
            rows = residual(jet, taus)
        for name, row in zip(names, rows, strict=True):
            check_residual(term, name, row, samples)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """What a point of the solution has: coordinates, then inputs."""
        return self.frame.axes.names

    @cached_property
    def quantities(self) -> Quantities:
        """What is measured and predicted beside the fields."""
        return Quantities(self.equations)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The fields, then the quantities."""
        return (*self.frame.fields, *self.quantities.names)

    def evaluate(
        self, theta: Tensor, points: Tensor, names: Sequence[str], threads: int
    ) -> dict[str, Tensor]:
        """Fields, their derivatives or quantities (N,) at points (d, N), float64.

        Args:
            names: "u", "u.x", "u.laplacian" …

        Raises:
            ProblemError: there is no such field, derivative or quantity.
        """
        count = points.shape[1]
        bounds = [k * count // (4 * threads) for k in range(4 * threads + 1)]
        return Outputs(self, names, points, bounds, threads).evaluate(theta)

    def evaluate_residuals(self, theta: Tensor, points: Tensor, threads: int) -> dict[str, Tensor]:
        """Evaluates the equation's own residuals (N,) by name at points (d, N), not weighted."""
        loss = self.make_equation_residuals(points, Holding(4 * threads, 0, 1, threads))
        names = list(self.trials[0].values)
        if loss is None:
            return {name: theta.new_empty(0) for name in names}
        rows = loss.evaluate_residuals(theta).reshape(points.shape[1], -1)
        return dict(zip(names, rows.T, strict=True))

    def evaluate_references(self, points: Tensor) -> dict[str, Tensor]:
        """Evaluates the true fields and quantities (N,) at points (d, N), those that are known."""
        return evaluate_references(self.equations, self.outputs, points)

    @property
    def first_points(self) -> Tensor:
        """The equation's points (d, N) at the start."""
        return self.first_terms[0].points

    def evaluate_in_torch(self, theta: Tensor, field: str, points: Tensor) -> Tensor:
        """A field (N,) at points (d, N), differentiable in them any number of times."""
        outputs = self.network(theta, [its.values(points) for its in self.inputs])
        values = outputs[self._output_fields.index(field)]
        form = self.forms.get(field)
        if form is None:
            return values
        return form.lifting(points) + form.distance(points) / self._maxima.get(field, 1.0) * values

    def describe(self) -> str:
        network, inputs = self.network.parts[0], self.inputs[0]
        kind = "residual" if network.residual else "mlp"
        kind = "modified mlp" if network.gated else kind
        named = f"{kind} network"
        if len(self.parts) > 1:
            each = "; ".join(self._describe_part(part) for part in self.parts)
            named = f"{len(self.parts)} {kind} networks ({each}), each"
        activation = "adaptive-tanh" if network.adaptive else network.activation
        scaling = "inputs scaled to [-1, 1]" if inputs.scales else "raw inputs"
        counted = " + ".join(
            f"{term.samples} {'points' if term.name == EQUATION else term.name}"
            for term in self.terms
        )
        return (
            f"{counted}, {named}, {network.depth} layers x {network.width}"
            f" ({activation}), {scaling}{', jets in torch' if network.gated else ''}"
        )

    def _describe_part(self, part: Part) -> str:
        """Fields of one network, and what they depend on, if that is not all."""
        fields = ", ".join(part.fields)
        is_all = part.coordinates == self.frame.axes.names
        return fields if is_all else f"{fields} of {', '.join(part.coordinates)}"

    def monitor(self, communicator: Communicator, chunks: int, threads: int) -> ErrorMonitor:
        """The errors against the reference, and the unknowns; collective."""
        return ErrorMonitor(self, communicator, chunks, threads)

    def make_renewal(self, objective: Objective, seed: int) -> PinnRenewal | None:
        """What renews points and weights as the job asks; None where it does not."""
        return None if self.adapt is None else PinnRenewal(self, objective, self.adapt, seed)
