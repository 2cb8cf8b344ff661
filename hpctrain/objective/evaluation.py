"""The loss as a function of the flat θ on a group of ranks: evaluated, restricted, counted.

    L(θ) = (1/|D|) Σ_j ℓ_j(θ)

A problem gives sums of ℓ_j over chunks of samples (`SampledLoss`); here they are added along the
fixed tree, so that every rank of the communicator has the same bits, whatever its size.
"""

import math
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange, Region
from hpctrain.linalg.block_layout import Layout
from hpctrain.objective.counts import Counts
from hpctrain.objective.losses import (
    BatchedLoss,
    FiniteSumLoss,
    LeastSquaresLoss,
    PortableLoss,
    SampledLoss,
    StratifiedLoss,
    TracedLoss,
)
from hpctrain.objective.sketch import Sketch, draw_signs
from hpctrain.objective.smooth import Evaluation
from hpctrain.objective.source import DivisibleSource, LossSource
from hpctrain.parallel.block_rows import BlockRows
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import (
    Node,
    list_nodes_up_to,
    pop_left_sibling,
    push_node,
    share_chunks,
)


class Objective:
    """L as a function of θ (n,), equal on all ranks of `communicator`.

    Args:
        share: the loss over this rank's chunks, `tree.share_chunks(chunks, size)[rank]`.
        communicator: the ranks that share the samples.
        samples: |D|.
        chunks: leaves of the summation tree over all ranks.
        counts: where work is added.
        fraction: the part of the full data set that the samples are, for the counts.
        source: what the loss is of, from which others are made; None for a view of another one.
        threads: of this rank, for losses made from the source.
    """

    def __init__(
        self,
        share: SampledLoss,
        communicator: Communicator,
        samples: int,
        chunks: int,
        counts: Counts,
        fraction: float = 1.0,
        source: LossSource | None = None,
        threads: int = 1,
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
        self._source = source
        self.threads = threads
        self._held = share_chunks(chunks, communicator.size)[communicator.rank]

    @classmethod
    def of(
        cls,
        source: LossSource,
        communicator: Communicator,
        chunks: int = 64,
        threads: int = 1,
        counts: Counts | None = None,
    ) -> "Objective":
        """The loss of a problem on all ranks of `communicator`.

        Args:
            source: the problem.
            communicator: the ranks that share its samples.
            chunks: leaves of the summation tree, a power of two, at least as many as ranks.
            threads: of this rank.
            counts: where work is added; by default counts of its own, from zero.
        """
        share = source.share(chunks, communicator.rank, communicator.size, threads)
        counts = counts or Counts(share.loss_cost, share.gradient_cost)
        samples = source.samples
        return cls(share, communicator, samples, chunks, counts, source=source, threads=threads)

    @property
    def layers(self) -> list[LayerRange]:
        """The parts of θ, from input to output, of which decompositions make blocks."""
        return self.source.layers

    @property
    def source(self) -> LossSource:
        """The problem that the loss is of."""
        if self._source is None:
            raise TypeError("a view of an objective has no source: ask the whole objective")
        return self._source

    def on(self, communicator: Communicator) -> "Objective":
        """The same loss on other ranks, which share its samples; with counts of its own."""
        return Objective.of(self.source, communicator, self._chunks, self.threads)

    def take_samples(self, chosen: Tensor, communicator: Communicator) -> "Objective":
        """The mean over some samples, cut into as many chunks; with counts of its own.

        Args:
            chosen: their numbers, ascending, at least one a chunk; equal on all these ranks.
            communicator: the ranks that share them.
        """
        source = self.source
        if not isinstance(source, DivisibleSource):
            raise TypeError(f"the samples of {type(source).__name__} cannot be shared out")
        rank, ranks = communicator.rank, communicator.size
        share = source.share_samples(chosen, self._chunks, rank, ranks, self.threads)
        counts = Counts(self.counts.loss_cost, self.counts.gradient_cost)
        fraction = len(chosen) / self.samples
        return Objective(share, communicator, len(chosen), self._chunks, counts, fraction)

    @property
    def is_divisible(self) -> bool:
        """Whether `take_samples` is there."""
        return isinstance(self._source, DivisibleSource)

    @property
    def share(self) -> SampledLoss:
        """The loss over this rank's chunks."""
        return self._share

    @property
    def untraced(self) -> str | None:
        """See `TracedLoss`; on this rank."""
        return self._share.untraced if isinstance(self._share, TracedLoss) else None

    @property
    def chunks(self) -> int:
        """Leaves of the summation tree over all ranks."""
        return self._chunks

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Evaluates L at θ; ∇L there costs an evaluation more."""
        loss = self._sum(self._share.losses(theta))
        self.counts.loss_work += self._fraction * self._share.loss_cost
        return Evaluation(self, theta, float(loss) / self.samples)

    def evaluate_with_gradient(self, theta: Tensor) -> Evaluation:
        """Evaluates L and ∇L at θ together: one pass over the samples, one sum over the ranks."""
        total = self._sum(self._share.losses_and_gradients(theta))
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        return Evaluation(self, theta, float(total[0]) / self.samples, total[1:] / self.samples)

    def multiply_hessian(self, theta: Tensor, v: Tensor) -> Tensor:
        """∇²L(θ) v (n,); one sum over the ranks.

        It counts as two gradients: it differentiates one.
        """
        total = self._sum(self._finite_sum.multiply_hessians(theta, v))
        self.counts.hvp_work += 2 * self._fraction * self._share.gradient_cost
        return total / self.samples

    def assemble_gauss_newton(self, theta: Tensor) -> BlockRows:
        """(2/|D|) JᵀJ at θ, of a loss of squared residuals; one sum over the ranks.

        It is summed along the tree over the chunks. A right child is added to its left sibling as
        it is made, so that few matrices are in memory.
        """
        share, n = self._least_squares, self.parameters
        layout = Layout(n, self.communicator.size)
        sums = list[tuple[Node, Tensor]]()
        level = share.chunks_at_a_time.bit_length() - 1
        for node in list_nodes_up_to(level, *self._held):
            first, last = (chunk - self._held[0] for chunk in (node.first, node.last))
            G = pop_left_sibling(sums, node)
            is_right = G is not None
            if G is None:
                G = torch.zeros(sum(layout.sizes), dtype=self.dtype, device=self.device)
            share.add_gauss_newton(theta, first, last, G, layout)
            push_node(sums, node.parent if is_right else node, G)
        nodes = [part for _, part in sums]
        own = self.communicator.sum_parts_by_tree(nodes, self._chunks, layout.sizes)
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        return BlockRows(self.communicator, layout, own.mul_(2 / self.samples))

    def evaluate_residual_curvature(self, theta: Tensor, p: Tensor, h: float) -> Tensor:
        """(2/|D|) Jᵀ r_pp (n,), r_pp the residuals' second derivative along p, by differences.

        Args:
            theta, p: (n,).
            h: the residuals are evaluated at θ and θ ± h p.
        """
        share = self._least_squares
        self.counts.loss_work += 3 * self._fraction * self._share.loss_cost
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        r_pp = share.evaluate_curvatures(theta, p, h)
        return (2 / self.samples) * self._sum(share.pull_back(theta, r_pp))

    def multiply_gauss_newton(self, theta: Tensor, v: Tensor) -> Tensor:
        """(2/|D|) JᵀJ v (n,); one sum over the ranks. J v is exact."""
        share = self._least_squares
        work = self._share.gradient_cost + 2 * self._share.loss_cost
        self.counts.hvp_work += self._fraction * work
        return (2 / self.samples) * self._sum(share.multiply_gauss_newton_chunks(theta, v))

    def sketch(self, theta: Tensor, rows: int, seed: int, iteration: int) -> "Sketch":
        """S [r J] with about `rows` rows: signed sums of rows of [r J] over groups of samples.

        Each row is in one group and has a random sign of its own (a count sketch; Charikar,
        Chen, Farach-Colton 2002): E SᵀS = I, and SᵀS = I where there are as many rows as samples.
        The rows of all ranks come together by one gather.
        """
        share, groups = self._least_squares, math.ceil(min(rows, self.samples) / self._chunks)
        signs = draw_signs(share.rows, seed, iteration)
        ranges = share_chunks(self._chunks, self.communicator.size)
        counts = [groups * (last - first) for first, last in ranges]
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        own = share.sketch_rows(theta, signs, groups)
        return Sketch(self.communicator.allgather_rows(own, counts), signs, groups, counts)

    def evaluate_sketched_curvature(
        self, theta: Tensor, p: Tensor, h: float, sketch: "Sketch"
    ) -> Tensor:
        """S r_pp (k,), r_pp as in `evaluate_residual_curvature`."""
        share = self._least_squares
        self.counts.loss_work += 3 * self._fraction * self._share.loss_cost
        own = share.sum_groups(share.evaluate_curvatures(theta, p, h), sketch.signs, sketch.groups)
        return self.communicator.allgather_rows(own, sketch.counts)

    def copy_uncounted(self) -> "Objective":
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
        if not isinstance(self._share, BatchedLoss):
            raise TypeError(f"{type(self._share).__name__} has no subsets of its samples")
        share = self._share.subset(chosen)
        fraction = self._fraction * len(chosen) / self.samples
        return Objective(share, self.communicator, len(chosen), self._chunks, self.counts, fraction)

    def sum_chunks(self, leaves: Iterable[Tensor], cost: float) -> Iterator[Tensor]:
        """Sums over all samples of what a loss gives beyond its value; each one over the ranks too.

        Args:
            leaves: of each chunk of this rank's `share`, (C, …) each.
            cost: of all of them, in multiply-adds for one sample; counted with the losses.
        """
        self.counts.loss_work += self._fraction * cost
        for each in leaves:
            yield self._sum(each)

    def gather_samples(self, chosen: Tensor) -> "Objective":
        """The mean over a few samples, which travel to every rank once.

        Collective; evaluations of what is returned need no messages, nor do those of its subsets,
        in which the samples are numbered from 0.

        Args:
            chosen: numbers of samples in any order, equal on all ranks; at least one.
        """
        if not isinstance(self._share, PortableLoss):
            raise TypeError(f"samples of {type(self._share).__name__} cannot travel")
        share = self._share.gather_samples(chosen, self.communicator)
        alone = Communicator(None, self.communicator.timer, self.communicator.traffic)
        fraction = self._fraction * len(chosen) / self.samples
        return Objective(share, alone, len(chosen), 1, self.counts, fraction)

    def evaluate_sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """∇ℓ_j(θ) (n,) of the sample at `place` in what `gather_samples` returned; no messages."""
        self.counts.gradient_work += self._fraction / self.samples * self._share.gradient_cost
        return cast(PortableLoss, self._share).evaluate_sample_gradient(place, theta)

    @property
    def is_portable(self) -> bool:
        """Whether `gather_samples` is there."""
        return isinstance(self._share, PortableLoss)

    @property
    def has_residuals(self) -> bool:
        """Whether `assemble_gauss_newton` and `evaluate_residual_curvature` are there."""
        return isinstance(self._share, LeastSquaresLoss)

    @property
    def has_batches(self) -> bool:
        """Whether `subset` is there."""
        return isinstance(self._share, BatchedLoss)

    @property
    def strata(self) -> tuple[int, ...]:
        """How many samples there are of each kind that a mini-batch is to have its share of."""
        share = self._share
        return share.strata if isinstance(share, StratifiedLoss) else (self.samples,)

    @property
    def has_subsets(self) -> bool:
        """Whether `subset` and `multiply_hessian` are there."""
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
        raise TypeError(f"{type(self._share).__name__} has no products by its Hessian")

    def _sum(self, leaves: Tensor) -> Tensor:
        return self.communicator.sum_leaves(leaves, self._chunks)
