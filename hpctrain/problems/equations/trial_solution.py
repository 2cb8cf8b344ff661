"""The solution that is trained, u(x) = G(x) + D(x) N(x; θ): its networks, and what they give."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import cycle

import torch
from torch import Tensor

from hpctrain.kernels import make_jet_evaluator, make_joint_evaluator
from hpctrain.kernels.jets import JetEvaluator, JetShape
from hpctrain.linalg.arrays import CPU
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.joint import JointNetwork
from hpctrain.problems.equations.blending import (
    Blend,
    BlendedComposition,
    BlendedJets,
    ForwardJets,
)
from hpctrain.problems.equations.conditions import Periodic
from hpctrain.problems.equations.exact import list_periodic_inputs
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.parts import Part, check_forms, divide_fields
from hpctrain.problems.equations.points import make_grid_points
from hpctrain.problems.equations.requests import lengthen
from hpctrain.problems.equations.scaling import Embedding, NetworkInputs
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.statement import Statement
from hpctrain.problems.equations.subdomains import KEY, Subdomains
from hpctrain.problems.equations.terms import ProblemError

# Points a coordinate on which the maximum of a distance is found: odd, so that midpoints are there;
# above so many coordinates it is found among points inside.
MAXIMUM_GRID, MOST_GRIDDED, MANY = 41, 3, 100_000


class TrialSolution:
    """Fields as functions of the parameters of networks.

    Args:
        statement: what is asked of them.
        network: makes N for a number of inputs and of outputs.
        dtype: the precision of all numbers.
        device: where they are evaluated.

    Attributes:
        parts: which fields have a network of their own.
        inputs: what the network of each part takes.
        network: all of them.

    Raises:
        ProblemError: the fields cannot be divided so, or a form does not fit.
    """

    def __init__(
        self,
        statement: Statement,
        network: DenseNetwork,
        dtype: torch.dtype = torch.float64,
        device: torch.device = CPU,
    ) -> None:
        equations, f = statement.equations, statement.formulation
        check_forms(equations, statement.forms)
        self._statement, self._forms, self._frame = statement, statement.forms, equations.frame
        self._dtype, self._device = dtype, device
        self.parts = divide_fields(equations, f.separate, f.is_soft)
        self.subdomains = self._cut_domain()
        self.inputs = self._list_inputs()
        self.network = JointNetwork.join(
            [
                replace(network, inputs=its.count, outputs=len(part.fields))
                for part, its in zip(cycle(self.parts), self.inputs, strict=False)
            ]
        )
        self._output_fields = [field for part in self.parts for field in part.fields]

    def _cut_domain(self) -> Subdomains | None:
        """The subdomains that the job asks for; None for one domain."""
        f = self._statement.formulation
        if not f.subdomains:
            return None
        flat = {each.along: "exact slopes" for part in self.parts for each in part.flat}
        periodic = {each.along for each in self._periodic}
        made = Subdomains(self._frame, f.subdomains, f.overlap, flat, periodic)
        empty = int((~made.find_touched(self._statement.points).any(dim=1)).sum())
        if empty:
            raise ProblemError(
                f"{KEY}: {empty} of {made.count} have none of the {f.points} points: fewer"
                " subdomains, or more points"
            )
        return made

    @cached_property
    def _periodic(self) -> list[Periodic]:
        """The conditions that the networks' inputs meet, or the windows of a ring."""
        f, equations = self._statement.formulation, self._statement.equations
        return [] if f.is_soft else list_periodic_inputs(equations)

    def _list_embedded(self, part: Part) -> tuple[Embedding, ...]:
        """Functions that the network of some fields takes in the place of coordinates."""
        rings = () if self.subdomains is None else self.subdomains.ring_inputs
        return (*self._periodic, *rings, *part.flat)

    def _list_inputs(self) -> list[NetworkInputs]:
        """What each network takes: of the parts, in one subdomain after the other."""
        f, found = self._statement.formulation, list[NetworkInputs]()
        for number in range(1 if self.subdomains is None else self.subdomains.count):
            bounds = None if self.subdomains is None else self.subdomains.find_bounds(number)
            for part in self.parts:
                embedded = self._list_embedded(part)
                found.append(
                    NetworkInputs(
                        self._frame, f.scale_inputs, embedded, f.fourier, part.coordinates, bounds
                    )
                )
        return found

    def list_networks(self, members: Sequence[int]) -> list[int]:
        """The numbers of the networks of some subdomains."""
        return [len(self.parts) * k + part for k in members for part in range(len(self.parts))]

    def make_evaluator(
        self,
        shape: JetShape,
        points: Tensor,
        bounds: list[int],
        threads: int,
        members: Sequence[int] = (0,),
    ) -> JetEvaluator:
        """The networks' jets at points (d, N), float64; along x unless `factors` says otherwise.

        Args:
            members: the subdomains whose networks they are, of the θ of these alone.
        """
        device, dtype = self._device, self._dtype
        if self._takes_plain(shape):
            values = self.inputs[0].values(points).to(device, dtype)
            return make_jet_evaluator(self.network.parts[0], shape, values, bounds, threads)
        numbers = self.list_networks(members)
        longer, count = lengthen(points), points.shape[1]
        jets = [self.inputs[k].jets(longer, shape)[..., :count].to(device, dtype) for k in numbers]
        x = points.to(device, dtype)
        network = self.network.select(numbers)
        return make_joint_evaluator(network, shape, x, bounds, threads, jets)

    def make_field_jets(
        self, shape: JetShape, points: Tensor, bounds: list[int], threads: int
    ) -> ForwardJets:
        """The jets at any points (d, N), float64, of what `make_composition` takes by itself."""
        if self.subdomains is None:
            return self.make_evaluator(shape, points, bounds, threads)
        order, cells = self.subdomains.find_cells(points)
        parts = []
        for cell in cells:
            places = order[cell.first : cell.last]
            x, count = points[:, places], len(places)
            shares = [k * count // (4 * threads) for k in range(4 * threads + 1)]
            evaluator = self.make_evaluator(shape, x, shares, threads, cell.members)
            entries = self.network.find_entries(self.list_networks(cell.members))
            blend = self._make_blend(shape, x, cell.members)
            parts.append((places, evaluator, entries, blend))
        return BlendedJets(parts, shape, len(self._output_fields), points.shape[1])

    def _make_blend(self, shape: JetShape, points: Tensor, members: Sequence[int]) -> Blend | None:
        """The windows at points (d, …) of a cell; None where there is one, which is 1."""
        if self.subdomains is None or len(members) == 1:
            return None
        return Blend(self.subdomains, members, shape, points, self._dtype, self._device)

    def _takes_plain(self, shape: JetShape) -> bool:
        """Whether there is one network, which takes one number for each coordinate."""
        its, d = self.inputs[0], len(self._frame.axes.names)
        is_plain = len(self.inputs) == 1 and its.is_plain and its.count == d
        return is_plain and not shape.laplacian

    def make_composition_of(
        self, members: Sequence[int], shape: JetShape, points: Tensor
    ) -> Composition | BlendedComposition:
        """Fields at points (d, …) of the jets of the networks of some subdomains."""
        made, blend = self.make_composition(shape, points), self._make_blend(shape, points, members)
        if blend is None:
            return made
        return BlendedComposition(made, blend, len(self._output_fields))

    def make_composition(self, shape: JetShape, points: Tensor) -> Composition:
        """Fields at points (d, …), float64, of the jets that `make_field_jets` gives there."""
        factors = self.inputs[0].factors(shape) if self._takes_plain(shape) else ()
        return Composition(
            self._frame,
            self._output_fields,
            self._forms,
            shape,
            points,
            self._maxima,
            factors,
            self._dtype,
            self._device,
        )

    def evaluate_in_torch(self, theta: Tensor, field: str, points: Tensor) -> Tensor:
        """A field (N,) at points (d, N), differentiable in them any number of times."""
        outputs = self.network(theta, [its.values(points) for its in self.inputs])
        own = outputs[self._output_fields.index(field) :: len(self._output_fields)]
        values = own[0]
        if self.subdomains is not None:
            windows = [self.subdomains.evaluate(k, points) for k in range(self.subdomains.count)]
            values = (own * torch.stack(windows)).sum(0)
        form = self._forms.get(field)
        if form is None:
            return values
        return form.lifting(points) + form.distance(points) / self._maxima.get(field, 1.0) * values

    @cached_property
    def _maxima(self) -> dict[str, float]:
        """What the distance of each field's form is divided by."""
        if not self._statement.formulation.scale_distance or not self._forms:
            return {}
        region, d = self._frame.region, len(self._frame.axes.names)
        if d <= MOST_GRIDDED:
            points = make_grid_points(region.bounds, (MAXIMUM_GRID,) * d)
            points = points[:, region.contains(points)]
        else:
            points = place_interior_points(region, MANY)
        found = {field: float(form.distance(points).max()) for field, form in self._forms.items()}
        for field, maximum in found.items():
            if not 0 < maximum < math.inf:
                raise ProblemError(
                    f"{self._forms[field].place}: the largest distance of {field} in the domain is"
                    f" {maximum}: it must be positive and finite"
                )
        return found

    def describe(self) -> str:
        """The networks, what fields they have, and what they are given."""
        network, inputs = self.network.parts[0], self.inputs[0]
        kind = "residual" if network.residual else "mlp"
        kind = "modified mlp" if network.gated else kind
        named = f"{kind} network"
        if len(self.parts) > 1:
            each = "; ".join(self._describe_part(part) for part in self.parts)
            named = f"{len(self.parts)} {kind} networks ({each}), each"
        if self.subdomains is not None:
            named = f"in each of {self.subdomains.describe()} {named}"
        activation = "adaptive-tanh" if network.adaptive else network.activation
        layers = f"{network.depth} layers x {network.width} ({activation})"
        if network.depth == 1:
            layers = f"linear in {inputs.count} inputs"
        scaling = "inputs scaled to [-1, 1]" if inputs.scales else "raw inputs"
        return f"{named}, {layers}, {scaling}{', jets in torch' if network.gated else ''}"

    def _describe_part(self, part: Part) -> str:
        """Fields of one network, and what they depend on, if that is not all."""
        fields = ", ".join(part.fields)
        is_all = part.coordinates == self._frame.axes.names
        return fields if is_all else f"{fields} of {', '.join(part.coordinates)}"
