"""The loss as a function of the flat θ on a group of ranks: evaluated, restricted, counted.

    L(θ) = (1/|D|) Σ_j ℓ_j(θ)

A problem gives sums of ℓ_j over chunks of samples (`SampledLoss`); here they are added along the
fixed tree, so that every rank of the communicator has the same bits, whatever its size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from hpctrain.decomposition.blocks import Region
from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.block_rows import BlockRows, Layout
from hpctrain.linalg.randomness import generator
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import Node, nodes_up_to, push_node, reduce_leaves, shares

# Parts of the samples over which a Gram matrix is accumulated before it is added along the tree.
GRAM_PARTS = 8


class SampledLoss(Protocol):
    """Sums of a loss over the chunks of samples that a rank holds.

    Costs are in multiply-adds for one sample; `prefix_cost` is what `restrict` itself spends.
    """

    parameters: int
    dtype: torch.dtype
    device: torch.device
    loss_cost: int
    gradient_cost: int
    prefix_cost: int

    def losses(self, theta: Tensor) -> Tensor:
        """Σ ℓ_j over each chunk, (C,)."""

    def losses_and_gradients(self, theta: Tensor) -> Tensor:
        """Σ ℓ_j and Σ ∇ℓ_j over each chunk, (C, 1 + n)."""

    def restrict(self, region: Region, theta: Tensor) -> "SampledLoss":
        """The same loss as a function of R θ, the parameters outside the region frozen as in θ."""


@runtime_checkable
class LeastSquaresLoss(SampledLoss, Protocol):
    """A loss ℓ_j = r_j² of residuals, with their Jacobian: what Gauss-Newton needs."""

    def add_gauss_newton(
        self, theta: Tensor, first: int, last: int, G: Tensor, layout: Layout
    ) -> None:
        """G += JᵀJ in the lower triangle of G, its block rows at `Layout.places`.

        J is the Jacobian of the residuals at the samples of this share's chunks first … last - 1.
        """

    def curvatures(self, theta: Tensor, p: Tensor, h: float) -> Tensor:
        """r_pp (N,) at this share's samples: the second difference of r along p, at ± h p."""

    def pulled_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Jᵀw over each chunk, (C, n), for weights w (N,) on this share's residuals."""

    def gauss_newton_products(self, theta: Tensor, v: Tensor) -> Tensor:
        """JᵀJ v over each chunk, (C, n)."""

    def sketched(self, theta: Tensor, signs: Tensor, groups: int) -> Tensor:
        """S [r J] (C · groups, 1 + n): in each chunk, `groups` sums of rows with signs.

        `signs` (|D|,), ± 1 for every sample of the whole set.
        """

    def grouped(self, values: Tensor, signs: Tensor, groups: int) -> Tensor:
        """S v (C · groups,), of values v (N,) at this share's samples."""


@runtime_checkable
class TracedLoss(SampledLoss, Protocol):
    """A loss of which the kernels evaluate what they have operations for.

    Attributes:
        untraced: an operation for want of which a part stays in torch; None where there is none.
    """

    untraced: str | None


@runtime_checkable
class FiniteSumLoss(SampledLoss, Protocol):
    """A loss that may be taken over any of its samples, with its Hessian's products."""

    def hessian_vectors(self, theta: Tensor, v: Tensor) -> Tensor:
        """Σ ∇²ℓ_j v over each chunk, (C, n)."""

    def subset(self, chosen: Tensor) -> "FiniteSumLoss":
        """The same loss over those samples of each chunk that are among `chosen`.

        `chosen` are numbers of samples of the whole set, ascending; a chunk may be left empty.
        """


@runtime_checkable
class HalvableLoss(FiniteSumLoss, Protocol):
    """A loss of a residual network, whose Euler steps can be made two half steps each."""

    half_step_cost: float

    def half_step_systems(self, theta: Tensor) -> Iterator[Tensor]:
        """For block after block, `EulerBlock.half_step_system` summed over each chunk."""


@runtime_checkable
class PortableLoss(FiniteSumLoss, Protocol):
    """A loss whose samples can travel from the ranks that hold them to all others."""

    def gathered(self, chosen: Tensor, communicator: Communicator) -> FiniteSumLoss:
        """The loss over `chosen`, in that order and as one chunk, held whole by every rank.

        Collective. In what is returned the samples are numbered from 0.
        """

    def sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """∇ℓ_j(θ) (n,) of the sample at this place among those held."""


@dataclass
class Counts:
    """Work done so far, in multiply-adds for one sample, averaged over the full data set.

    Divided by the cost of one evaluation of the full network these are true evaluations: a block's
    gradient, which sweeps a part of the network, counts as that part.
    """

    loss_cost: int
    gradient_cost: int
    loss_work: float = 0
    gradient_work: float = 0
    hvp_work: float = 0

    @property
    def loss_evaluations(self) -> float:
        """Evaluations of the loss alone; a gradient contains its own."""
        return self.loss_work / self.loss_cost

    @property
    def gradient_evaluations(self) -> float:
        return self.gradient_work / self.gradient_cost

    @property
    def hvp_evaluations(self) -> float:
        """Hessian-vector products, in units of one gradient."""
        return self.hvp_work / self.gradient_cost


@dataclass(frozen=True)
class Sketch:
    """Rows of S [r J] at one θ.

    Attributes:
        rows: S [r J] (k, 1 + n), on every rank.
        signs: of all samples (|D|,).
        groups: rows from each chunk of samples.
        counts: rows from each rank.
    """

    rows: Tensor
    signs: Tensor
    groups: int
    counts: list[int]


def random_signs(samples: int, seed: int, iteration: int) -> Tensor:
    """± 1 for each sample (N,), int8, on the CPU."""
    drawn = generator(seed, "sketch", iteration).integers(0, 2, samples, dtype=np.int8)
    return to_tensor(2 * drawn - 1)


class Smooth(Protocol):
    """What a line search, a trust region or a quasi-Newton method needs of a function of θ (n,)."""

    parameters: int
    dtype: torch.dtype
    communicator: Communicator
    counts: Counts

    def at(self, theta: Tensor) -> "Evaluation":
        """The value; its gradient costs an evaluation more."""

    def with_gradient(self, theta: Tensor) -> "Evaluation":
        """The value and the gradient in one evaluation."""

    def hessian_vector(self, theta: Tensor, v: Tensor) -> Tensor:
        """The Hessian at θ times v (n,)."""


class Evaluation:
    """The loss at one θ, and its gradient, which is evaluated when it is first asked for.

    To ask for it is a collective call: on all ranks or on none.
    """

    def __init__(
        self, objective: Smooth, theta: Tensor, loss: float, gradient: Tensor | None = None
    ) -> None:
        self.theta = theta
        self.loss = loss
        self._objective = objective
        self._gradient = gradient

    @property
    def gradient(self) -> Tensor:
        """∇L(θ) (n,)."""
        if self._gradient is None:
            self._gradient = self._objective.with_gradient(self.theta).gradient
        return self._gradient


class Objective:
    """L as a function of θ (n,), equal on all ranks of `communicator`.

    Args:
        share: the loss over this rank's chunks, `tree.shares(chunks, size)[rank]`.
        communicator: the ranks that share the samples.
        samples: |D|.
        chunks: leaves of the summation tree over all ranks.
        counts: where work is added.
        fraction: the part of the full data set that the samples are, for the counts.
    """

    def __init__(
        self,
        share: SampledLoss,
        communicator: Communicator,
        samples: int,
        chunks: int,
        counts: Counts,
        fraction: float = 1.0,
    ) -> None:
        self.parameters = share.parameters
        self.dtype = share.dtype
        self.device = share.device
        self.communicator = communicator
        self.counts = counts
        self.samples = samples
        self._share = share
        self._chunks = chunks
        self._fraction = fraction
        self._held = shares(chunks, communicator.size)[communicator.rank]

    @property
    def untraced(self) -> str | None:
        """See `TracedLoss`; on this rank."""
        return self._share.untraced if isinstance(self._share, TracedLoss) else None

    def at(self, theta: Tensor) -> Evaluation:
        """Evaluates L at θ, and ∇L if it is asked for, which then costs an evaluation more."""
        loss = self._sum(self._share.losses(theta)[:, None])[0]
        self.counts.loss_work += self._fraction * self._share.loss_cost
        return Evaluation(self, theta, float(loss) / self.samples)

    def with_gradient(self, theta: Tensor) -> Evaluation:
        """Evaluates L and ∇L at θ together: one pass over the samples, one sum over the ranks."""
        total = self._sum(self._share.losses_and_gradients(theta))
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        return Evaluation(self, theta, float(total[0]) / self.samples, total[1:] / self.samples)

    def hessian_vector(self, theta: Tensor, v: Tensor) -> Tensor:
        """∇²L(θ) v (n,); one sum over the ranks.

        It counts as two gradients: it differentiates one.
        """
        total = self._sum(self._finite_sum.hessian_vectors(theta, v))
        self.counts.hvp_work += 2 * self._fraction * self._share.gradient_cost
        return total / self.samples

    def gauss_newton_matrix(self, theta: Tensor) -> BlockRows:
        """(2/|D|) JᵀJ at θ, of a loss of squared residuals; one sum over the ranks.

        The samples are taken in `GRAM_PARTS` parts, which are added along the tree: the bits are
        the same on 1, 2, 4, … `GRAM_PARTS` ranks.
        """
        share, n = self._least_squares, self.parameters
        layout = Layout(n, self.communicator.size)
        sums = list[tuple[Node, Tensor]]()
        level = max(self._chunks // GRAM_PARTS, 1).bit_length() - 1
        for node in nodes_up_to(level, *self._held):
            first, last = (chunk - self._held[0] for chunk in (node.first, node.last))
            G = torch.zeros(sum(layout.sizes), dtype=self.dtype, device=self.device)
            share.add_gauss_newton(theta, first, last, G, layout)
            push_node(sums, node, G)
        parts = [part for _, part in sums]
        nodes = torch.stack(parts) if len(parts) > 1 else parts[0][None]
        own = self.communicator.tree_sum_parts(nodes, self._chunks, layout.sizes)
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        return BlockRows(self.communicator, layout, own.mul_(2 / self.samples))

    def residual_curvature(self, theta: Tensor, p: Tensor, h: float) -> Tensor:
        """(2/|D|) Jᵀ r_pp (n,), r_pp the residuals' second derivative along p, by differences.

        Args:
            theta, p: (n,).
            h: the residuals are evaluated at θ and θ ± h p.
        """
        share = self._least_squares
        self.counts.loss_work += 3 * self._fraction * self._share.loss_cost
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        r_pp = share.curvatures(theta, p, h)
        return (2 / self.samples) * self._sum(share.pulled_back(theta, r_pp))

    def gauss_newton_product(self, theta: Tensor, v: Tensor) -> Tensor:
        """(2/|D|) JᵀJ v (n,); one sum over the ranks. J v is a central difference of r."""
        share = self._least_squares
        work = self._share.gradient_cost + 2 * self._share.loss_cost
        self.counts.hvp_work += self._fraction * work
        return (2 / self.samples) * self._sum(share.gauss_newton_products(theta, v))

    def sketch(self, theta: Tensor, rows: int, seed: int, iteration: int) -> "Sketch":
        """S [r J] with about `rows` rows: signed sums of rows of [r J] over groups of samples.

        Each sample is in one group and has a random sign of its own (a count sketch; Charikar,
        Chen, Farach-Colton 2002): E SᵀS = I, and SᵀS = I where there are as many rows as samples.
        The rows of all ranks come together by one gather.
        """
        share, groups = self._least_squares, math.ceil(min(rows, self.samples) / self._chunks)
        signs = random_signs(self.samples, seed, iteration)
        ranges = shares(self._chunks, self.communicator.size)
        counts = [groups * (last - first) for first, last in ranges]
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        own = share.sketched(theta, signs, groups)
        return Sketch(self.communicator.allgather_rows(own, counts), signs, groups, counts)

    def sketched_curvature(self, theta: Tensor, p: Tensor, h: float, sketch: "Sketch") -> Tensor:
        """S r_pp (k,), r_pp as in `residual_curvature`."""
        share = self._least_squares
        self.counts.loss_work += 3 * self._fraction * self._share.loss_cost
        own = share.grouped(share.curvatures(theta, p, h), sketch.signs, sketch.groups)
        return self.communicator.allgather_rows(own, sketch.counts)

    def uncounted(self) -> "Objective":
        """The same loss, for questions that are no part of a method's work."""
        counts = Counts(self.counts.loss_cost, self.counts.gradient_cost)
        share, ranks = self._share, self.communicator
        return Objective(share, ranks, self.samples, self._chunks, counts, self._fraction)

    def restrict(self, region: Region, theta: Tensor, counts: Counts | None = None) -> "Objective":
        """L as a function of R θ (m,), the parameters outside the region frozen as in θ."""
        counts = self.counts if counts is None else counts
        share = self._share.restrict(region, theta)
        counts.loss_work += self._fraction * share.prefix_cost
        return Objective(
            share, self.communicator, self.samples, self._chunks, counts, self._fraction
        )

    def subset(self, chosen: Tensor) -> "Objective":
        """The mean over some of the samples, which the ranks that hold them evaluate.

        Args:
            chosen: numbers of samples, ascending, equal on all ranks; at least one.
        """
        share = self._finite_sum.subset(chosen)
        fraction = self._fraction * len(chosen) / self.samples
        return Objective(share, self.communicator, len(chosen), self._chunks, self.counts, fraction)

    def half_step_systems(self, theta: Tensor) -> Iterator[Tensor]:
        """For block after block of a residual network what `transfers.second_half_step` takes.

        One sum over the ranks for each.
        """
        share = self._share
        if not isinstance(share, HalvableLoss):
            raise TypeError(f"{type(share).__name__} is not of a residual network")
        self.counts.loss_work += self._fraction * share.half_step_cost
        for systems in share.half_step_systems(theta):
            yield self._sum(systems.flatten(1)).view(systems.shape[1:])

    def gathered(self, chosen: Tensor) -> "Objective":
        """The mean over a few samples, which travel to every rank once.

        Collective; evaluations of what is returned need no messages, nor do those of its subsets,
        in which the samples are numbered from 0.

        Args:
            chosen: numbers of samples in any order, equal on all ranks; at least one.
        """
        if not isinstance(self._share, PortableLoss):
            raise TypeError(f"samples of {type(self._share).__name__} cannot travel")
        share = self._share.gathered(chosen, self.communicator)
        alone = Communicator(None, self.communicator.timer, self.communicator.traffic)
        fraction = self._fraction * len(chosen) / self.samples
        return Objective(share, alone, len(chosen), 1, self.counts, fraction)

    def sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """∇ℓ_j(θ) (n,) of one of the samples that `gathered` brought, without any summation."""
        self.counts.gradient_work += self._fraction / self.samples * self._share.gradient_cost
        return cast(PortableLoss, self._share).sample_gradient(place, theta)

    @property
    def is_portable(self) -> bool:
        """Whether `gathered` is there."""
        return isinstance(self._share, PortableLoss)

    @property
    def has_residuals(self) -> bool:
        """Whether `gauss_newton_matrix` and `residual_curvature` are there."""
        return isinstance(self._share, LeastSquaresLoss)

    @property
    def has_subsets(self) -> bool:
        """Whether `subset` and `hessian_vector` are there."""
        return isinstance(self._share, FiniteSumLoss)

    @property
    def _least_squares(self) -> LeastSquaresLoss:
        if isinstance(self._share, LeastSquaresLoss):
            return self._share
        raise TypeError(f"{type(self._share).__name__} is not a sum of squared residuals")

    @property
    def _finite_sum(self) -> FiniteSumLoss:
        if isinstance(self._share, FiniteSumLoss):
            return self._share
        raise TypeError(f"{type(self._share).__name__} has no subsets of its samples")

    def _sum(self, leaves: Tensor) -> Tensor:
        return self.communicator.tree_sum(reduce_leaves(leaves, self._held[0]), self._chunks)
