"""The loss as a function of the parameter vector θ, evaluated by a group of ranks together.

    L(θ) = (1/|D|) Σ_j ℓ_j(θ)

A problem computes sums of ℓ_j over chunks of samples (`SampledLoss`). An `Objective` adds these
sums along a fixed binary tree over all chunks. The bits of the result are equal on
all ranks, and the same for any number of ranks. The objective also counts the work of every
evaluation (`Counts`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange, Region
from hpctrain.linalg.block_layout import Layout
from hpctrain.objective.cell_grams import assemble_blocks
from hpctrain.objective.counts import Counts
from hpctrain.objective.coupling import Coupling
from hpctrain.objective.losses import (
    BatchedLoss,
    CoupledLoss,
    FiniteSumLoss,
    LeastSquaresLoss,
    PortableLoss,
    SampledLoss,
    StratifiedLoss,
    TracedLoss,
)
from hpctrain.objective.piece_factors import factorise_pieces
from hpctrain.objective.sketch import Sketch, draw_signs
from hpctrain.objective.smooth import Evaluation
from hpctrain.objective.source import BoundSource, DivisibleSource, LossSource
from hpctrain.parallel.block_rows import BlockRows
from hpctrain.parallel.block_scaling import BlockScaling
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.sparse_blocks import SparseBlocks
from hpctrain.parallel.tree import (
    Node,
    add_to_nodes,
    find_aligned_nodes,
    list_nodes_up_to,
    share_chunks,
)
from hpctrain.parallel.triangular_factor import compute_triangular_factor


class Objective:
    """The loss L(θ), θ of shape (n,), as all ranks of a communicator evaluate it together.

    θ must be equal on all ranks, and so is every result. All evaluations are collective.

    Args:
        share: the loss over the chunks that this rank holds, which are number
            `tree.share_chunks(chunks, size)[rank]`.
        communicator: the ranks among which the samples are divided.
        samples: |D|, the number of samples.
        chunks: the number of chunks on all ranks, the leaves of the summation tree.
        counts: the counts to which every evaluation adds its work.
        fraction: the number of samples divided by that of the full data set. An evaluation counts
            as this part of one.
        source: the problem, from which objectives on other ranks or samples are made. None for an
            objective that is a part of another one, such as a block's.
        threads: the threads of this rank, for objectives made from the source.
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
        """Makes the objective of a problem, with all of its samples.

        Args:
            source: the problem.
            communicator: the ranks among which its samples are divided.
            chunks: leaves of the summation tree, a power of two, at least the number of ranks.
            threads: the threads of this rank.
            counts: the counts to which evaluations add their work; by default new ones.
        """
        share = source.share(chunks, communicator.rank, communicator.size, threads)
        counts = counts or Counts(share.loss_cost, share.gradient_cost)
        samples = source.samples
        return cls(share, communicator, samples, chunks, counts, source=source, threads=threads)

    @property
    def layers(self) -> list[LayerRange]:
        """The layers of the network, from input to output: their ranges in θ and their costs.

        Decompositions cut θ into blocks of these layers.

        Raises:
            TypeError: this objective is a part of another one, and has no source.
        """
        return self.source.layers

    @property
    def source(self) -> LossSource:
        """The problem whose loss this is.

        Raises:
            TypeError: this objective is a part of another one, and has no source.
        """
        if self._source is None:
            raise TypeError("a view of an objective has no source: ask the whole objective")
        return self._source

    def on(self, communicator: Communicator) -> "Objective":
        """Makes an objective of the same loss on other ranks, with new counts.

        Args:
            communicator: the ranks among which all samples are then divided.

        Raises:
            TypeError: the samples stay on the ranks that brought them; see `is_bound`.
        """
        if self.is_bound:
            raise TypeError(f"the samples of {type(self.source).__name__} stay on their ranks")
        return Objective.of(self.source, communicator, self._chunks, self.threads)

    def take_samples(self, chosen: Tensor, communicator: Communicator) -> "Objective":
        """Makes an objective of the mean loss over some samples, with new counts.

        These samples are divided anew into chunks, as many as this objective has, and among ranks.

        Args:
            chosen: the numbers of the samples in ascending order, at least one for each chunk,
                equal on all these ranks.
            communicator: the ranks among which the samples are divided.

        Raises:
            TypeError: the problem cannot divide a part of its samples; see `is_divisible`.
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
        """Whether `take_samples` can be called: the problem can divide some of its samples anew."""
        return isinstance(self._source, DivisibleSource)

    @property
    def is_bound(self) -> bool:
        """Whether the samples stay on the ranks that brought them: `on` cannot be called."""
        return isinstance(self._source, BoundSource)

    @property
    def share(self) -> SampledLoss:
        """The loss over the chunks of samples that this rank holds."""
        return self._share

    @property
    def untraced(self) -> str | None:
        """An operation for want of which this rank's share stays in torch; see `TracedLoss`."""
        return self._share.untraced if isinstance(self._share, TracedLoss) else None

    @property
    def chunks(self) -> int:
        """The number of chunks on all ranks, the leaves of the summation tree."""
        return self._chunks

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Evaluates L at θ (n,).

        The gradient at θ, if it is asked of the result later, costs another pass over the samples.
        """
        loss = self._sum(self._share.sum_losses(theta))
        self.counts.loss_work += self._fraction * self._share.loss_cost
        return Evaluation(self, theta, float(loss) / self.samples)

    def evaluate_with_gradient(self, theta: Tensor) -> Evaluation:
        """Evaluates L and ∇L at θ (n,) by one pass over the samples and one sum over the ranks."""
        total = self._sum(self._share.sum_losses_and_gradients(theta))
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        return Evaluation(self, theta, float(total[0]) / self.samples, total[1:] / self.samples)

    def multiply_hessian(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes ∇²L(θ) v (n,) for a vector v (n,), by one sum over the ranks.

        It counts as two gradients, since it differentiates a gradient.

        Raises:
            TypeError: the loss has no products with its Hessian; see `has_subsets`.
        """
        total = self._sum(self._finite_sum.multiply_hessians(theta, v))
        self.counts.hvp_work += 2 * self._fraction * self._share.gradient_cost
        return total / self.samples

    @property
    def coupling(self) -> Coupling | None:
        """Which parameters have rows of J in common, where few have."""
        return self._share.coupling if isinstance(self._share, CoupledLoss) else None

    def assemble_gauss_newton(self, theta: Tensor) -> BlockRows | SparseBlocks:
        """Computes the Gauss-Newton matrix (2/|D|) JᵀJ at θ, by one sum over the ranks.

        J is the Jacobian of the residuals r, of which the loss is the mean of squares. The matrices
        of the chunks are added along the tree, with few of them in memory.

        Returns:
            The matrix (n, n), divided among the ranks by block rows; where few parameters are
            coupled by its blocks that are not zero.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        if self.coupling is not None:
            return self._assemble_blocks(self.coupling, theta)
        share, n = self._least_squares, self.parameters
        layout = Layout(n, self.communicator.size)
        level = share.chunks_at_a_time.bit_length() - 1
        numbers, start = sum(layout.sizes), self._held[0]

        def make_zero() -> Tensor:
            return torch.zeros(numbers, dtype=self.dtype, device=self.device)

        def add(node: Node, G: Tensor) -> None:
            share.add_gauss_newton(theta, node.first - start, node.last - start, G, layout)

        nodes = add_to_nodes(level, *self._held, make_zero, add)
        own = self.communicator.sum_parts_by_tree(nodes, self._chunks, layout.sizes)
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        return BlockRows(self.communicator, layout, own.mul_(2 / self.samples), self.threads)

    def _assemble_blocks(self, coupling: Coupling, theta: Tensor) -> SparseBlocks:
        share, start = self._share, self._held[0]
        assert isinstance(share, CoupledLoss)
        grams = dict[tuple[int, Node], Tensor]()
        for node in find_aligned_nodes(*self._held):
            rows = share.evaluate_cell_rows(theta, node.first - start, node.last - start)
            own = rows.sum_grams(0, node.last - node.first)
            grams |= {(cell, node): G for cell, G in own.items()}
        return self._add_cells(coupling, grams, theta)

    def assemble_scaled_gauss_newton(
        self, theta: Tensor, cutoff: float
    ) -> tuple[SparseBlocks, BlockScaling]:
        """Computes R⁻ᵀ (2/|D|) JᵀJ R⁻¹ at θ, where R⁻¹ makes the columns of each piece orthonormal.

        The rows of J of this rank's samples, by the parameters of their cells, are in memory at
        once.

        Args:
            theta: θ (n,).
            cutoff: c of `parallel.block_scaling`.

        Returns:
            The blocks of the matrix that are not zero, divided among the ranks, and R.

        Raises:
            TypeError: all parameters may have rows of J in common; see `coupling`.
        """
        share, coupling = self._share, self.coupling
        if coupling is None or not isinstance(share, CoupledLoss):
            raise TypeError("all parameters of this loss may have rows of J in common")
        start, end = self._held
        rows = share.evaluate_cell_rows(theta, 0, end - start)
        root, ranks = math.sqrt(2 / self.samples), self.communicator
        scaling = factorise_pieces(coupling, rows, self._held, root, cutoff, ranks, theta)
        scaled = rows.scale(scaling)
        grams = {
            (cell, node): G
            for node in find_aligned_nodes(start, end)
            for cell, G in scaled.sum_grams(node.first - start, node.last - start).items()
        }
        return self._add_cells(coupling, grams, theta), scaling

    def _add_cells(
        self, coupling: Coupling, grams: Mapping[tuple[int, Node], Tensor], like: Tensor
    ) -> SparseBlocks:
        """(2/|D|) JᵀJ of the sums over cells of this rank's subtrees."""
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        return assemble_blocks(coupling, grams, 2 / self.samples, self.communicator, like)

    def factorise_jacobian(self, theta: Tensor) -> Tensor:
        """Computes R of the orthogonal factorisation [J r] = Q R at θ, by one merge over the ranks.

        Rows of chunks are factored along the tree, few of them in memory at a time; see
        `parallel.triangular_factor`.

        Returns:
            R (min(N, 1 + n), 1 + n), N the number of residuals, the same on every rank.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        share, ranks = self._least_squares, self.communicator
        counts = [count for part in ranks.allgather(share.count_rows()) for count in part]
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        own = self._list_rows(share, theta)
        return compute_triangular_factor(own, counts, 1 + self.parameters, ranks)

    def evaluate_rows(self, theta: Tensor) -> tuple[Tensor, list[int]]:
        """Computes the rows [r J] of this rank's residuals and of their Jacobian at θ.

        Returns:
            (k, 1 + n), and the number k of each rank.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        share = self._least_squares
        counts = self.communicator.allgather(sum(share.count_rows()))
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        rows = share.evaluate_rows(theta, 0, self._held[1] - self._held[0])
        return torch.cat(rows), counts

    def _list_rows(self, share: LeastSquaresLoss, theta: Tensor) -> Iterator[Tensor]:
        """Yields the rows [J r] of one of this rank's chunks after the other."""
        level = share.chunks_at_a_time.bit_length() - 1
        for node in list_nodes_up_to(level, *self._held):
            first, last = (chunk - self._held[0] for chunk in (node.first, node.last))
            for rows in share.evaluate_rows(theta, first, last):
                yield torch.cat([rows[:, 1:], rows[:, :1]], dim=1)

    def pull_back_residuals(self, theta: Tensor, q: Tensor) -> Tensor:
        """Computes (2/|D|) J(θ)ᵀ r(θ + q) (n,): residuals of one point, by the Jacobian of another.

        Args:
            theta: θ (n,).
            q: a step (n,) from there.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        share = self._least_squares
        self.counts.loss_work += self._fraction * self._share.loss_cost
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        r = share.evaluate_residuals(theta + q)
        return (2 / self.samples) * self._sum(share.pull_back(theta, r))

    def multiply_gauss_newton(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes (2/|D|) JᵀJ v (n,) for a vector v (n,), without the matrix JᵀJ.

        J v is exact, not a difference. It takes one sum over the ranks.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        share = self._least_squares
        work = self._share.gradient_cost + 2 * self._share.loss_cost
        self.counts.hvp_work += self._fraction * work
        return (2 / self.samples) * self._sum(share.multiply_gauss_newton_chunks(theta, v))

    def sketch(self, theta: Tensor, rows: int, seed: int, iteration: int) -> "Sketch":
        """Computes a random sketch S [r J] of the residuals r and their Jacobian J.

        S is a count sketch (Charikar, Chen, Farach-Colton 2002). The samples of a chunk are divided
        into groups, and a row of the sketch is the sum of the rows of [r J] of a group, each with a
        random sign of its own. So E[SᵀS] = I, and SᵀS = I where every group is one row. One gather
        brings the rows to all ranks.

        Args:
            theta: θ (n,).
            rows: the number of rows wanted. It is rounded up to a multiple of the number of chunks.
            seed, iteration: determine the signs.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        share, groups = self._least_squares, math.ceil(min(rows, self.samples) / self._chunks)
        signs = draw_signs(share.rows, seed, iteration)
        ranges = share_chunks(self._chunks, self.communicator.size)
        counts = [groups * (last - first) for first, last in ranges]
        self.counts.gradient_work += self._fraction * self._share.gradient_cost
        own = share.sketch_rows(theta, signs, groups)
        return Sketch(self.communicator.allgather_rows(own, counts), signs, groups, counts)

    def sketch_residuals(self, theta: Tensor, sketch: "Sketch") -> Tensor:
        """Computes S r(θ) (k,).

        Args:
            theta: θ (n,).
            sketch: one at any point; its S is used again, and k is its number of rows.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        share = self._least_squares
        self.counts.loss_work += self._fraction * self._share.loss_cost
        own = share.sum_groups(share.evaluate_residuals(theta), sketch.signs, sketch.groups)
        return self.communicator.allgather_rows(own, sketch.counts)

    def copy_uncounted(self) -> "Objective":
        """Makes an objective of the same loss with new counts.

        Checks and measurements evaluate the loss through it, since their work is not the method's.
        """
        counts = Counts(self.counts.loss_cost, self.counts.gradient_cost)
        share, ranks = self._share, self.communicator
        return Objective(share, ranks, self.samples, self._chunks, counts, self._fraction)

    def restrict(self, region: Region, theta: Tensor, counts: Counts | None = None) -> "Objective":
        """Makes L a function of the parameters R θ (m,) of a region, with all others kept as in θ.

        Args:
            region: which parameters vary, such as a block of layers.
            theta: θ (n,), which gives the other parameters their values.
            counts: where its work is added; by default where that of this objective is.
        """
        counts = self.counts if counts is None else counts
        share = self._share.restrict(region, theta)
        counts.loss_work += self._fraction * share.prefix_cost
        return Objective(
            share, self.communicator, self.samples, self._chunks, counts, self._fraction
        )

    def subset(self, chosen: Tensor) -> "Objective":
        """Makes an objective of the mean loss over some samples, which stay where they are.

        Each rank evaluates those of them that it holds.

        Args:
            chosen: the numbers of the samples in ascending order, at least one, equal on all ranks.

        Raises:
            TypeError: the loss cannot be taken over some samples; see `has_batches`.
        """
        if not isinstance(self._share, BatchedLoss):
            raise TypeError(f"{type(self._share).__name__} has no subsets of its samples")
        share = self._share.subset(chosen)
        fraction = self._fraction * len(chosen) / self.samples
        return Objective(share, self.communicator, len(chosen), self._chunks, self.counts, fraction)

    def sum_chunks(self, leaves: Iterable[Tensor], cost: float) -> Iterator[Tensor]:
        """Sums values of the chunks over all chunks and ranks, and counts their work.

        Problems use it for what they compute beside the loss, such as the sums of single terms.

        Args:
            leaves: tensors (C, …) with a value for each of the C chunks of this rank's share.
            cost: the work of all of them together, in multiply-adds for one sample, which is
                counted with the losses.

        Yields:
            The sum of each tensor, equal on all ranks.
        """
        self.counts.loss_work += self._fraction * cost
        for each in leaves:
            yield self._sum(each)

    def gather_samples(self, chosen: Tensor) -> "Objective":
        """Sends a few samples to all ranks, and makes an objective of the mean loss over them.

        This call is collective. Each rank then evaluates the new objective and its subsets by
        itself, without messages. The samples are numbered from 0 in it.

        Args:
            chosen: the numbers of the samples in any order, at least one, equal on all ranks.

        Raises:
            TypeError: the samples cannot be sent; see `is_portable`.
        """
        if not isinstance(self._share, PortableLoss):
            raise TypeError(f"samples of {type(self._share).__name__} cannot travel")
        share = self._share.gather_samples(chosen, self.communicator)
        alone = Communicator(None, self.communicator.timer, self.communicator.traffic)
        fraction = self._fraction * len(chosen) / self.samples
        return Objective(share, alone, len(chosen), 1, self.counts, fraction)

    def evaluate_sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """Computes ∇ℓ_j(θ) (n,) of one sample, without messages.

        It is for objectives that `gather_samples` made.

        Args:
            place: the place of the sample among those that were gathered, from 0.
            theta: θ (n,).
        """
        self.counts.gradient_work += self._fraction / self.samples * self._share.gradient_cost
        return cast(PortableLoss, self._share).evaluate_sample_gradient(place, theta)

    @property
    def is_portable(self) -> bool:
        """Whether samples can be sent to all ranks, as `gather_samples` needs."""
        return isinstance(self._share, PortableLoss)

    @property
    def has_residuals(self) -> bool:
        """Whether the loss is a sum of squared residuals, as Gauss-Newton methods need."""
        return isinstance(self._share, LeastSquaresLoss)

    @property
    def has_batches(self) -> bool:
        """Whether the loss can be taken over some of the samples, as `subset` needs."""
        return isinstance(self._share, BatchedLoss)

    @property
    def strata(self) -> tuple[int, ...]:
        """The number of samples of each kind, such as points inside and points on the boundary.

        A mini-batch takes its share of every kind. A loss whose samples are all of one kind has one
        number here, that of its samples.
        """
        share = self._share
        return share.strata if isinstance(share, StratifiedLoss) else (self.samples,)

    @property
    def has_subsets(self) -> bool:
        """Whether `subset` and `multiply_hessian` can be called."""
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
