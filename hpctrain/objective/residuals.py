"""The residuals r of a least-squares loss and their Jacobian J, over all ranks.

    L(θ) = (1/|D|) Σ_j r_j(θ)²

Methods of Gauss-Newton's kind ask for JᵀJ, for its products, for orthogonal factors of J, for its
rows, or for a sketch of them.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hpctrain.linalg.block_layout import Layout
from hpctrain.objective.cell_grams import assemble_blocks
from hpctrain.objective.coupling import Coupling
from hpctrain.objective.division import Division
from hpctrain.objective.losses import CoupledLoss, LeastSquaresLoss
from hpctrain.objective.piece_factors import factorise_pieces
from hpctrain.objective.sketch import Sketch, draw_signs
from hpctrain.parallel.block_rows import BlockRows
from hpctrain.parallel.block_scaling import BlockScaling
from hpctrain.parallel.sparse_blocks import SparseBlocks
from hpctrain.parallel.tree import (
    Node,
    add_to_nodes,
    find_aligned_nodes,
    list_nodes_up_to,
    share_chunks,
)
from hpctrain.parallel.triangular_factor import compute_triangular_factor


class Residuals:
    """The residuals of a loss that is the mean of their squares, as all ranks evaluate them.

    θ must be equal on all ranks. All calls are collective.

    Args:
        share: the loss over the chunks that this rank holds.
        division: how the samples are divided among the ranks.
    """

    def __init__(self, share: LeastSquaresLoss, division: Division) -> None:
        self._share = share
        self._division = division
        self._ranks = division.communicator
        self._samples = division.samples
        self._held = division.held

    @property
    def count(self) -> int:
        """R, how many residuals all samples have."""
        return self._share.rows

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
        """
        if self.coupling is not None:
            return self._assemble_blocks(self.coupling, theta)
        share, layout = self._share, Layout(self._share.parameters, self._ranks.size)
        level = share.chunks_at_a_time.bit_length() - 1
        numbers, start = sum(layout.sizes), self._held[0]

        def make_zero() -> Tensor:
            return torch.zeros(numbers, dtype=share.dtype, device=share.device)

        def add(node: Node, G: Tensor) -> None:
            share.add_gauss_newton(theta, node.first - start, node.last - start, G, layout)

        nodes = add_to_nodes(level, *self._held, make_zero, add)
        own = self._ranks.sum_parts_by_tree(nodes, self._division.chunks, layout.sizes)
        self._division.count_gradients(share.gradient_cost)
        own.mul_(2 / self._samples)
        return BlockRows(self._ranks, layout, own, self._division.threads)

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
        root, ranks = math.sqrt(2 / self._samples), self._ranks
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
        self._division.count_gradients(self._share.gradient_cost)
        return assemble_blocks(coupling, grams, 2 / self._samples, self._ranks, like)

    def factorise_jacobian(self, theta: Tensor) -> Tensor:
        """Computes R of the orthogonal factorisation [J r] = Q R at θ, by one merge over the ranks.

        Rows of chunks are factored along the tree, few of them in memory at a time; see
        `parallel.triangular_factor`.

        Returns:
            R (min(N, 1 + n), 1 + n), N the number of residuals, the same on every rank.
        """
        share, ranks = self._share, self._ranks
        counts = [count for part in ranks.allgather(share.count_rows()) for count in part]
        self._division.count_gradients(share.gradient_cost)
        own = self._list_rows(theta)
        return compute_triangular_factor(own, counts, 1 + share.parameters, ranks)

    def evaluate_rows(self, theta: Tensor) -> tuple[Tensor, list[int]]:
        """Computes the rows [r J] of this rank's residuals and of their Jacobian at θ.

        Returns:
            (k, 1 + n), and the number k of each rank.
        """
        share = self._share
        counts = self._ranks.allgather(sum(share.count_rows()))
        self._division.count_gradients(self._share.gradient_cost)
        rows = share.evaluate_rows(theta, 0, self._held[1] - self._held[0])
        return torch.cat(rows), counts

    def gather_rows(self, theta: Tensor) -> tuple[Tensor, list[int]]:
        """Computes the rows [r J] of all residuals at θ, chunk after chunk, by one gather.

        Returns:
            (R, 1 + n), whole on every rank, and the number of rows of each.
        """
        own, counts = self.evaluate_rows(theta)
        return self._ranks.allgather_rows(own, counts), counts

    def gather_residuals(self, theta: Tensor, counts: list[int]) -> Tensor:
        """Computes all residuals r (R,) at θ in the order of `gather_rows`, by one gather.

        Args:
            theta: θ (n,).
            counts: the number of rows of each rank.
        """
        share = self._share
        self._division.count_losses(share.loss_cost)
        own = share.sort_by_chunk(share.evaluate_residuals(theta))
        return self._ranks.allgather_rows(own, counts)

    def _list_rows(self, theta: Tensor) -> Iterator[Tensor]:
        """Yields the rows [J r] of one of this rank's chunks after the other."""
        level = self._share.chunks_at_a_time.bit_length() - 1
        for node in list_nodes_up_to(level, *self._held):
            first, last = (chunk - self._held[0] for chunk in (node.first, node.last))
            for rows in self._share.evaluate_rows(theta, first, last):
                yield torch.cat([rows[:, 1:], rows[:, :1]], dim=1)

    def pull_back(self, theta: Tensor, q: Tensor) -> Tensor:
        """Computes (2/|D|) J(θ)ᵀ r(θ + q) (n,): residuals of one point, by the Jacobian of another.

        Args:
            theta: θ (n,).
            q: a step (n,) from there.
        """
        share = self._share
        self._division.count_losses(share.loss_cost)
        self._division.count_gradients(share.gradient_cost)
        r = share.evaluate_residuals(theta + q)
        return (2 / self._samples) * self._division.sum(share.pull_back(theta, r))

    def multiply_gauss_newton(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes (2/|D|) JᵀJ v (n,) for a vector v (n,), without the matrix JᵀJ.

        J v is exact, not a difference. It takes one sum over the ranks.
        """
        share = self._share
        self._division.count_products(share.gradient_cost + 2 * share.loss_cost)
        total = self._division.sum(share.multiply_gauss_newton_chunks(theta, v))
        return (2 / self._samples) * total

    def sketch(self, theta: Tensor, rows: int, seed: int, iteration: int) -> Sketch:
        """Computes a random sketch S [r J] of the residuals r and their Jacobian J.

        S is a count sketch (Charikar, Chen, Farach-Colton 2002). The samples of a chunk are divided
        into groups, those of each kind of sample alike, and a row of the sketch is the sum of the
        rows of [r J] of the groups of all kinds, each with a random sign of its own. So
        E[SᵀS] = I. One gather brings the rows to all ranks.

        Args:
            theta: θ (n,).
            rows: the number of rows wanted. It is rounded up to a multiple of the number of chunks.
            seed, iteration: determine the signs.
        """
        share, chunks = self._share, self._division.chunks
        groups = math.ceil(min(rows, self._samples) / chunks)
        signs = draw_signs(share.rows, seed, iteration)
        ranges = share_chunks(chunks, self._ranks.size)
        counts = [groups * (last - first) for first, last in ranges]
        self._division.count_gradients(self._share.gradient_cost)
        own = share.sketch_rows(theta, signs, groups)
        return Sketch(self._ranks.allgather_rows(own, counts), signs, groups, counts)

    def apply_sketch(self, theta: Tensor, sketch: Sketch) -> Tensor:
        """Computes S r(θ) (k,).

        Args:
            theta: θ (n,).
            sketch: one at any point; its S is used again, and k is its number of rows.
        """
        share = self._share
        self._division.count_losses(self._share.loss_cost)
        own = share.sum_groups(share.evaluate_residuals(theta), sketch.signs, sketch.groups)
        return self._ranks.allgather_rows(own, sketch.counts)
