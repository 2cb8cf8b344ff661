"""The solution that is trained, u(x) = G(x) + D(x) N(x; θ): its networks, and what they give."""

import math
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from hpctrain.kernels import make_jet_evaluator, make_joint_evaluator
from hpctrain.kernels.jets import JetEvaluator, JetShape
from hpctrain.linalg.arrays import CPU
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.joint import JointNetwork
from hpctrain.problems.equations.exact import list_periodic_inputs
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.parts import Part, check_forms, divide_fields
from hpctrain.problems.equations.points import make_grid_points
from hpctrain.problems.equations.scaling import NetworkInputs
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.statement import Statement
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
        self.inputs = [self._list_inputs(part) for part in self.parts]
        self.network = JointNetwork.join(
            [
                replace(network, inputs=its.count, outputs=len(part.fields))
                for part, its in zip(self.parts, self.inputs, strict=True)
            ]
        )
        self._output_fields = [field for part in self.parts for field in part.fields]

    def _list_inputs(self, part: Part) -> NetworkInputs:
        """What the network of some fields takes."""
        f, equations = self._statement.formulation, self._statement.equations
        periodic = () if f.is_soft else list_periodic_inputs(equations)
        embedded = (*periodic, *part.flat)
        return NetworkInputs(self._frame, f.scale_inputs, embedded, f.fourier, part.coordinates)

    def make_evaluator(
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
        its, d = self.inputs[0], len(self._frame.axes.names)
        is_plain = len(self.inputs) == 1 and its.is_plain and its.count == d
        return is_plain and not shape.laplacian

    def make_composition(self, shape: JetShape, points: Tensor) -> Composition:
        """Fields at points (d, …), float64, of the jets that an evaluator gives there."""
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
        values = outputs[self._output_fields.index(field)]
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
