"""Physics-informed training: the mean squared residual of an equation over collocation points.

    u(x) = G₀(x) + len(x) N(x; θ),   L(θ) = (1/|D|) Σ_j R(u)(x_j)²

The equation's residual is written in torch; the kernels evaluate it with the network's jets and
sweep back to the gradient (`hpctrain.kernels.residual`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange, LayerSet, Region
from hpctrain.kernels import jet_evaluator
from hpctrain.kernels.dense import accumulate_gram
from hpctrain.kernels.jets import JetShape
from hpctrain.kernels.residual import Residual, residual_loss
from hpctrain.linalg.arrays import CPU, chunk_sums
from hpctrain.linalg.block_layout import Layout
from hpctrain.networks.dense import DenseLayer, DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import shares
from hpctrain.problems.equations.ansatz import Ansatz
from hpctrain.problems.equations.checks.guard import named_place
from hpctrain.problems.equations.checks.jumps import describe_jumps
from hpctrain.problems.equations.checks.probe import check_pointwise, check_untrainable
from hpctrain.problems.equations.conditions import NoAnsatz, SoftConstraints, penalty_terms
from hpctrain.problems.equations.errors import ErrorMonitor
from hpctrain.problems.equations.points import Cluster, clustered, grid_points, hammersley_points
from hpctrain.problems.equations.scaling import InputScaling, caution_of_sizes
from hpctrain.problems.equations.system import PDE, ProblemError, jet_shape

# Chunks whose Jacobian rows are in memory at a time.
JACOBIAN_CHUNKS = 8


class PinnProblem:
    """An equation, a network, and the points at which the residual is made small.

    Args:
        pde: the equation.
        network: N, with as many inputs as the equation has coordinates.
        points: the number of collocation points |D|, of a Hammersley set.
        dtype: the precision of all numbers.
        scale_distance: divide len by its maximum over the domain.
        clusters: where the points lie denser.
        soft: conditions as penalty terms, in the place of G₀ + len·N.
        device: where the loss is evaluated.
        scale_inputs: the network takes coordinates that are scaled from the domain to [-1, 1].
    """

    def __init__(
        self,
        pde: PDE,
        network: DenseNetwork,
        points: int,
        dtype: torch.dtype = torch.float64,
        scale_distance: bool = False,
        clusters: Sequence[Cluster] = (),
        soft: SoftConstraints | None = None,
        device: torch.device = CPU,
        scale_inputs: bool = False,
    ) -> None:
        self.pde = pde
        self.network = network
        self._scales_inputs = scale_inputs
        self._scaling = InputScaling(pde.domain if scale_inputs else None, pde.orders)
        self.parameters = network.parameters
        interior = clustered(hammersley_points(pde.domain, points), pde.domain, clusters)
        self._terms = penalty_terms(pde, interior, soft.points, soft.penalty) if soft else None
        self._points = interior if self._terms is None else self._terms.points
        self.samples = self._points.shape[1]
        self._dtype = dtype
        self._device = device
        self._scale_distance = scale_distance

    @property
    def cautions(self) -> tuple[str, ...]:
        """Jumps of lifting or distance, which the residual does not see; sizes of coordinates."""
        is_soft = self._terms is not None
        scales = {
            "network.scale_inputs": self._scales_inputs,
            "problem.scale_distance": is_soft or self._scale_distance,
        }
        jumps = [] if is_soft else describe_jumps(self.pde)
        off = [key for key, on in scales.items() if not on]
        return (*jumps, *caution_of_sizes(self.pde, off))

    @property
    def layers(self) -> list[LayerRange]:
        """The network's layers, for a decomposition of the parameters."""
        layers = self.network.layers
        return [LayerRange(each.start, each.stop, each.inputs * each.outputs) for each in layers]

    def initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,)."""
        return self.network.initial_parameters(seed).to(self._device, self._dtype)

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> "PinnLoss":
        """The loss over the chunks that rank `rank` of `ranks` holds."""
        points, bounds = _share_of(self._points, chunks, rank, ranks)
        first = shares(chunks, ranks)[rank][0] * self.samples // chunks
        inputs = self._inputs(points)
        points = points.to(self._device, self._dtype)
        # Wrapped, so that what fails in its derivative can be told with its place.
        residual = wraps(self.pde.residual, updated=())(self._residual(points, first))
        self._try_out(residual, points)
        shape = jet_shape(self.pde.orders)
        return PinnLoss(self.network, shape, residual, inputs, bounds, threads, first)

    def _inputs(self, points: Tensor) -> Tensor:
        """What the network takes at points (d, N)."""
        return self._scaling.inputs(points).to(self._device, self._dtype)

    def _residual(self, points: Tensor, first: int) -> Residual:
        """The residual as a function of the network's jet at a rank's points, from `first` on."""
        pde, scaling = self.pde, self._scaling
        if self._terms is not None:
            terms = self._terms.part(first, first + points.shape[1], self._dtype, self._device)
            return lambda jet, _: (terms.residual(pde, scaling.jet(_single_output(jet))),)
        ansatz = self._ansatz(self._points[:, first : first + points.shape[1]])

        def residual(jet: Any, _unknowns: Any) -> tuple[Any]:
            jet = scaling.jet(_single_output(jet))
            u = ansatz.apply(jet) if isinstance(jet, Tensor) else ansatz.apply_each(jet)
            return (pde.residual(points, pde.jet(u)),)

        return residual

    def _try_out(self, residual: Residual, points: Tensor) -> None:
        """Evaluates the residual once, so that one which fails at a point does so before a run."""
        with torch.no_grad():
            components = jet_shape(self.pde.orders).components
            residual(points.new_zeros(components, 1, points.shape[1]), ())

    def _ansatz(self, points: Tensor) -> Ansatz | NoAnsatz:
        if self._terms is not None:
            return NoAnsatz()
        return Ansatz(self.pde, points, self._scale_distance).to(self._dtype, self._device)

    def describe(self) -> str:
        network = self.network
        kind = "residual" if network.residual else "mlp"
        activation = "adaptive-tanh" if network.adaptive else "tanh"
        inputs = "inputs scaled to [-1, 1]" if self._scales_inputs else "raw inputs"
        return (
            f"{self.samples} points, {kind} network, {network.depth} layers x {network.width}"
            f" ({activation}), {inputs}"
        )

    def monitor(self, communicator: Communicator, chunks: int, threads: int) -> ErrorMonitor:
        """The error against the equation's reference; collective."""
        return ErrorMonitor(self, communicator, chunks, threads)

    def error(self, chunks: int, rank: int, ranks: int, threads: int) -> "SolutionError":
        """The error on the equation's test grid, as sums over the chunks that a rank holds."""
        grid = grid_points(self.pde.domain, self.pde.test_grid)
        points, bounds = _share_of(grid, chunks, rank, ranks)
        ansatz = self._ansatz(points)
        reference = self._reference(points)
        inputs = self._inputs(points)
        return SolutionError(reference, self.network, ansatz, inputs, bounds, threads)

    def _reference(self, points: Tensor) -> Tensor | None:
        """The equation's reference (N,), finite everywhere, if it has one."""
        reference, pde = self.pde.reference(points), self.pde
        if reference is None:
            return None
        check_untrainable(pde, pde.reference, reference, points)
        check_pointwise(pde.reference, points, reference, step=1 + len(reference) // 32)
        bad = ~reference.isfinite()
        if bool(bad.any()):
            raise ProblemError(
                f"{named_place(pde.reference)} is {float(reference[bad][0])} at"
                f" {pde.named_point(points[:, bad][:, 0])}: it must be finite in the closed domain"
            )
        return reference.detach()

    def grid_axes(self) -> dict[str, np.ndarray]:
        """The test grid's points along each coordinate, by its name."""
        return {
            name: np.linspace(low, high, count)
            for name, (low, high), count in zip(
                self.pde.coordinates, self.pde.domain, self.pde.test_grid, strict=True
            )
        }


def _single_output(jet: Any) -> Any:
    """The components of the jet of a network's only output."""
    return jet[:, 0] if isinstance(jet, Tensor) else [component[0] for component in jet]


def _share_of(points: Tensor, chunks: int, rank: int, ranks: int) -> tuple[Tensor, list[int]]:
    """A rank's points (d, N) and the bounds of its chunks among them."""
    count = points.shape[1]
    first, last = shares(chunks, ranks)[rank]
    bounds = [chunk * count // chunks for chunk in range(first, last + 1)]
    part = points[:, bounds[0] : bounds[-1]].contiguous()
    return part, [bound - bounds[0] for bound in bounds]


@dataclass(frozen=True)
class _Frozen:
    """What a restriction does not change: θ outside its region, and the jets that enter it."""

    region: Region
    theta: Tensor
    activations: Tensor | None


class PinnLoss:
    """Sums of squared residuals over chunks of points; see `objective.SampledLoss`."""

    def __init__(
        self,
        network: DenseNetwork,
        shape: JetShape,
        residual: Residual,
        inputs: Tensor,
        bounds: list[int],
        threads: int,
        first_sample: int,
    ) -> None:
        self.dtype, self.device = inputs.dtype, inputs.device
        self._threads = threads
        self._first_sample = first_sample
        self._jets = jet_evaluator(network, shape, inputs, bounds, threads)
        self._loss = residual_loss(self._jets, residual, inputs.dtype)
        self.untraced = self._loss.untraced
        self._set_region(None)

    def _set_region(self, frozen: _Frozen | None) -> None:
        layers = self._jets.network.layers
        self._frozen = frozen
        self._first = frozen.region.first if frozen else 0
        self._last = frozen.region.last if frozen else len(layers) - 1
        self.parameters = frozen.region.size if frozen else layers[-1].stop
        # Forward through layers `first` …; back through all of those but the first, which needs
        # no adjoint below it; and one product more for each layer from `first` to `last`, also
        # for those between them that a region leaves out: the kernels sweep them all the same.
        above = _multiply_adds(layers[self._first :])
        adjoint = _multiply_adds(layers[self._first + 1 :])
        self.prefix_cost = _multiply_adds(layers[: self._first])
        self.loss_cost = above
        self.gradient_cost = above + adjoint + _multiply_adds(layers[self._first : self._last + 1])

    def restrict(self, region: Region, theta: Tensor) -> "PinnLoss":
        """See `objective.SampledLoss`."""
        restricted = object.__new__(PinnLoss)
        restricted.__dict__.update(self.__dict__)
        activations = self._jets.prefix(theta, region.first) if region.first > 0 else None
        restricted._set_region(_Frozen(region, theta.clone(), activations))
        return restricted

    def losses(self, theta: Tensor) -> Tensor:
        return self._loss.losses(self._full(theta), self._first, self._activations)

    def losses_and_gradients(self, theta: Tensor) -> Tensor:
        sums = self._loss.losses_and_gradients(
            self._full(theta), self._first, self._last, self._activations
        )
        if self._frozen is None or not isinstance(self._frozen.region, LayerSet):
            return sums
        start = self._jets.network.layers[self._first].start
        gradients = [
            sums[:, 1 + run.start - start : 1 + run.stop - start]
            for run in self._frozen.region.runs
        ]
        return torch.cat([sums[:, :1], *gradients], dim=1)

    def add_gauss_newton(
        self, theta: Tensor, first: int, last: int, G: Tensor, layout: Layout
    ) -> None:
        for chunk in range(first, last, JACOBIAN_CHUNKS):
            rows = self._loss.jacobian(theta, chunk, min(chunk + JACOBIAN_CHUNKS, last))
            accumulate_gram(rows, 1, G, layout, self._threads)

    def curvatures(self, theta: Tensor, p: Tensor, h: float) -> Tensor:
        r, ahead, behind = (self._loss.residuals(theta + step * p) for step in (0.0, h, -h))
        return (ahead - 2 * r + behind) / h**2

    def pulled_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        return self._loss.weighted_gradients(theta, weights)

    def gauss_newton_products(self, theta: Tensor, v: Tensor) -> Tensor:
        return self._loss.weighted_gradients(theta, self._loss.jacobian_product(theta, v))

    def sketched(self, theta: Tensor, signs: Tensor, groups: int) -> Tensor:
        own = self._own_signs(signs)
        loss = self._loss.regrouped(self._group_bounds(groups))
        r = self.grouped(self._loss.residuals(theta), signs, groups)
        return torch.cat([r[:, None], loss.weighted_gradients(theta, own)], dim=1)

    def grouped(self, values: Tensor, signs: Tensor, groups: int) -> Tensor:
        bounds = self._group_bounds(groups)
        sizes = values.new_tensor([last - first for first, last in pairwise(bounds)]).long()
        group = torch.arange(len(sizes), device=self.device).repeat_interleave(sizes)
        sums = values.new_zeros(len(sizes))
        return sums.index_add_(0, group, values * self._own_signs(signs))

    def _own_signs(self, signs: Tensor) -> Tensor:
        first = self._first_sample
        return signs[first : first + self._jets.points].to(self.device, self.dtype)

    def _group_bounds(self, groups: int) -> list[int]:
        """Bounds of the groups, `groups` in each chunk, equal to within a point, perhaps empty."""
        bounds = self._jets.bounds
        inner = [a + g * (b - a) // groups for a, b in pairwise(bounds) for g in range(groups)]
        return [*inner, bounds[-1]]

    @property
    def _activations(self) -> Tensor | None:
        return self._frozen.activations if self._frozen else None

    def _full(self, theta: Tensor) -> Tensor:
        """θ (n,) out of the argument, which is R θ for a region."""
        if self._frozen is None:
            return theta
        self._frozen.region.replace(self._frozen.theta, theta)
        return self._frozen.theta


def _multiply_adds(layers: tuple[DenseLayer, ...]) -> int:
    return sum(layer.inputs * layer.outputs for layer in layers)


class SolutionError:
    """Sums over chunks of the test grid from which relative errors are made.

    Args:
        reference: u (N,) at the points, float64, or None.
        inputs: what the network takes there (d, N).
    """

    def __init__(
        self,
        reference: Tensor | None,
        network: DenseNetwork,
        ansatz: Ansatz | NoAnsatz,
        inputs: Tensor,
        bounds: list[int],
        threads: int,
    ) -> None:
        self._ansatz = ansatz
        self._bounds = bounds
        self.reference = None if reference is None else reference.to(inputs.device)
        values_only = JetShape.closed(len(inputs), [])
        self._values = jet_evaluator(network, values_only, inputs, bounds, threads)

    def prediction(self, theta: Tensor) -> Tensor:
        """u (N,) at this rank's points of the grid."""
        return self._ansatz.apply_to_values(self._values.forward(theta, keep=False)[0, 0])

    def sums(self, theta: Tensor) -> Tensor:
        """Σ (u_NN - u)², Σ u², Σ u_NN² over each chunk, (C, 3)."""
        if self.reference is None:
            raise ValueError("this equation has no reference solution")
        u, exact = self.prediction(theta).double(), self.reference
        squares = torch.stack([(u - exact).square(), exact.square(), u.square()])
        return chunk_sums(squares, self._bounds).T.contiguous()
