"""Physics-informed training: weighted mean squares of residuals of equations and conditions.

    u(x) = G(x) + D(x) N(x; θ),   L(θ) = Σ_t w_t (1/N_t) Σ_j ω_j Σ_i r_ij(u)²

Residuals are written in torch; the kernels evaluate them with the network's jets and sweep back to
the gradient (`hpctrain.kernels.residual`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.kernels.jets import JetShape
from hpctrain.linalg.arrays import CPU, to_array
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import unknowns as unknown_values
from hpctrain.problems.equations.adaptive.options import AdaptOptions
from hpctrain.problems.equations.adaptive.renewal import PinnRenewal
from hpctrain.problems.equations.assembly import Assembly, EquationResiduals
from hpctrain.problems.equations.blending import ForwardJets
from hpctrain.problems.equations.checks.cautions import list_cautions
from hpctrain.problems.equations.conditions import Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.errors import ErrorMonitor, evaluate_references
from hpctrain.problems.equations.geometry.sampling import Cube
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.loss import PinnLoss, TermLoss
from hpctrain.problems.equations.outputs import Outputs, Quantities
from hpctrain.problems.equations.requests import Trial
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.statement import Formulation, Statement
from hpctrain.problems.equations.terms import EQUATION, Term
from hpctrain.problems.equations.trial_solution import TrialSolution
from hpctrain.problems.equations.uncertainty import Spread, Uncertainty, estimate
from hpctrain.problems.outside import Outside


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
        self.dtype, self.device = dtype, device
        self._statement = Statement(equations, formulation)
        self.forms = self._statement.forms
        self.solution = TrialSolution(self._statement, network, dtype, device)
        self.network = self.solution.network
        self.parameters = self.network.parameters + len(equations.unknowns)
        self.first_terms = self._statement.make_terms()
        self.terms = self.first_terms
        self.samples = sum(term.samples for term in self.terms)
        self._assembly = Assembly(equations, self.solution, self.first_terms, dtype, device)
        self._shares: dict[Holding, PinnLoss] = {}

    def draw_terms(self, cube: Cube) -> list[Term]:
        """The first terms at other points, which are made of `cube`; observations stay."""
        return self._statement.draw_terms(cube)

    def move_into_clusters(self, points: Tensor) -> Tensor:
        """Evenly distributed points (d, N) of the bounding box, denser where the job asks."""
        return self._statement.move_into_clusters(points)

    @property
    def exact_terms(self) -> dict[str, Term]:
        """As terms, the conditions that are to hold by the forms of the fields."""
        return self._statement.exact_terms

    @property
    def trials(self) -> list[Trial]:
        """Each term, called once with made-up values."""
        return self._assembly.trials

    @property
    def shapes(self) -> list[JetShape]:
        """The jet that each term needs."""
        return self._assembly.shapes

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
        theta = torch.cat([weights, unknown_values.list_starts(self.equations.unknowns)])
        return theta.to(self.device, self.dtype)

    def evaluate_unknowns(self, theta: Tensor) -> dict[str, float]:
        """The values of the unknowns in θ (n,)."""
        taus = theta[self.network.parameters :].double()
        named = unknown_values.evaluate(self.equations.unknowns, taus)
        return {name: float(value) for name, value in named.items()}

    def estimate_uncertainties(
        self, theta: Tensor, communicator: Communicator, chunks: int, threads: int
    ) -> dict[str, Uncertainty]:
        """Of the unknowns in θ (n,), see `uncertainty`; collective."""
        if not self.equations.unknowns:
            return {}
        objective = Objective.of(self, communicator, chunks, threads)
        conditions = self.equations.named_conditions
        measured = {n for n, each in conditions.items() if isinstance(each, Observations)}
        rows = {
            term.name: self.count_rows(number) * term.samples
            for number, term in enumerate(self.terms)
            if term.name in measured or not measured
        }
        own = self.share(chunks, communicator.rank, communicator.size, threads)
        squares = communicator.sum_leaves(own.compute_losses_by_term(theta, [*rows]), chunks)

        def sum_changes(p: Tensor) -> Tensor:
            return communicator.sum_leaves(own.compute_changes_by_term(theta, p, [*rows]), chunks)

        unknowns, counts = self.equations.unknowns, [*rows.values()]
        spread = Spread(squares, counts, len(unknowns), sum_changes if measured else None)
        return estimate(objective, unknowns, spread, theta)

    def locate_not_finite(
        self, theta: Tensor, communicator: Communicator, chunks: int, threads: int
    ) -> str:
        own = self.share(chunks, communicator.rank, communicator.size, threads)
        places = [each for each in communicator.allgather(own.find_not_finite(theta)) if each]
        if not places:
            return ""
        number, sample = min(places)
        term = self.terms[number]
        point = term.points[:, term.group * sample]
        return f"{term.place}: {term.title} is not finite at {self.frame.axes.describe(point)}"

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> PinnLoss:
        """The loss over the chunks that rank `rank` of `ranks` holds, one for all that ask."""
        key = Holding(chunks, rank, ranks, threads)
        if key not in self._shares:
            self._shares[key] = self.make_share(self.terms, key)
        return self._shares[key]

    def lend(self, shares: Mapping[Holding, PinnLoss]) -> None:
        """Has those that ask for its loss get these shares, which are of its terms."""
        self._shares = dict(shares)

    def replace_terms(self, terms: list[Term]) -> None:
        """Goes on with other points or weights, of as many samples, in all shares."""
        self.terms = terms
        for key, share in self._shares.items():
            self.renew(share, terms, key)

    def renew(self, share: PinnLoss, terms: Sequence[Term], holding: Holding) -> None:
        """Has a share go on with other terms, of as many rows."""
        share.take_terms(self.make_parts(terms, holding), self._assembly.find_coupling(terms))

    def make_share(self, terms: Sequence[Term], holding: Holding) -> PinnLoss:
        """The loss of other terms than those of now, over a rank's chunks."""
        first, last = holding.held
        rows = sum(self.count_rows(n) * term.samples for n, term in enumerate(terms))
        return PinnLoss(
            self.network,
            self.make_parts(terms, holding),
            last - first,
            self.parameters,
            rows,
            [term.samples for term in terms],
            self.dtype,
            self.device,
            holding.threads,
            self._assembly.find_coupling(terms),
        )

    @property
    def adapt(self) -> AdaptOptions | None:
        """What of the loss is renewed in the course of a run."""
        return self.formulation.adapt

    def count_rows(self, number: int) -> int:
        """Residuals of each sample of a term."""
        return self._assembly.count_rows(number)

    def make_parts(self, terms: Sequence[Term], holding: Holding) -> list[TermLoss]:
        """The sums of terms over a rank's chunks."""
        return self._assembly.make_parts(terms, holding)

    def make_equation_residuals(self, points: Tensor, holding: Holding) -> EquationResiduals | None:
        """The equation's own residuals at points (d, M), as a rank holds them; None for none."""
        term = replace(self.first_terms[0], points=points)
        return self._assembly.make_equation_residuals(term, holding)

    def make_field_jets(
        self, shape: JetShape, points: Tensor, bounds: list[int], threads: int
    ) -> ForwardJets:
        """The networks' jets at points (d, N), see `TrialSolution`."""
        return self.solution.make_field_jets(shape, points, bounds, threads)

    def make_composition(self, shape: JetShape, points: Tensor) -> Composition:
        """Fields at points (d, …), float64, of the jets that an evaluator gives there."""
        return self.solution.make_composition(shape, points)

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
        return self.solution.evaluate_in_torch(theta, field, points)

    def describe(self) -> str:
        counted = " + ".join(
            f"{term.samples} {'points' if term.name == EQUATION else term.name}"
            for term in self.terms
        )
        return f"{counted}, {self.solution.describe()}"

    def make_monitor(self, communicator: Communicator, chunks: int, threads: int) -> ErrorMonitor:
        """The errors against the reference, and the unknowns; collective."""
        return ErrorMonitor(self, communicator, chunks, threads)

    def make_renewal(self, objective: Objective, seed: int) -> PinnRenewal | None:
        """What renews points and weights as the job asks; None where it does not."""
        return None if self.adapt is None else PinnRenewal(self, objective, self.adapt, seed)
