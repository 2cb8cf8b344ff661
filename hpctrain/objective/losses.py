"""What a problem's loss computes on one rank: sums over the chunks of samples that the rank holds.

    L(θ) = (1/|D|) Σ_j ℓ_j(θ)

Every loss is a `SampledLoss`. The other protocols are for losses that can do more. In all of them
n is the number of parameters, and C the number of chunks that this rank holds.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import Region
from hpctrain.linalg.block_layout import Layout
from hpctrain.objective.coupling import Coupling
from hpctrain.parallel.block_scaling import BlockScaling
from hpctrain.parallel.communicator import Communicator


class SampledLoss(Protocol):
    """A loss, summed over each of the chunks of samples that a rank holds.

    Attributes:
        parameters: n, the length of θ.
        loss_cost, gradient_cost: the work of the loss, and of the loss with its gradient, in
            multiply-adds for one sample.
        prefix_cost: the work of the `restrict` that made this loss, in the same unit; it evaluates
            the layers below the region. 0 for a loss that is not restricted.
    """

    parameters: int
    dtype: torch.dtype
    device: torch.device
    loss_cost: int
    gradient_cost: int
    prefix_cost: int

    def sum_losses(self, theta: Tensor) -> Tensor:
        """Computes Σ_j ℓ_j(θ) over each chunk, (C,)."""

    def sum_losses_and_gradients(self, theta: Tensor) -> Tensor:
        """Computes [Σ_j ℓ_j(θ), Σ_j ∇ℓ_j(θ)] over each chunk, (C, 1 + n)."""

    def restrict(self, region: Region, theta: Tensor) -> "SampledLoss":
        """Makes the loss a function of a region's parameters R θ; all others stay as in θ."""


@runtime_checkable
class LeastSquaresLoss(SampledLoss, Protocol):
    """A loss ℓ_j = Σ_i r_ij² of residuals whose Jacobian J is known.

    J has one row for each residual of each sample. A rank holds the rows of its own samples.

    Attributes:
        rows: the number of rows on all ranks.
        chunks_at_a_time: how many chunks have their rows of J in memory at once, a power of two.
    """

    rows: int
    chunks_at_a_time: int

    def add_gauss_newton(
        self, theta: Tensor, first: int, last: int, G: Tensor, layout: Layout
    ) -> None:
        """Adds JᵀJ of some chunks to the lower triangle of G.

        The products of the single chunks are added along the complete binary tree over these
        chunks, and their sum is added to G.

        Args:
            theta: θ (n,).
            first, last: the chunks first … last - 1 of this rank, a power of two of them.
            G: the numbers of the lower triangle (n, n), whose block rows begin at `layout.places`.
            layout: how the block rows are cut.
        """

    def evaluate_rows(self, theta: Tensor, first: int, last: int) -> list[Tensor]:
        """Computes the rows [r J] of each of the chunks first … last - 1 of this rank, (k, 1 + n).

        Args:
            theta: θ (n,).
            first, last: the chunks.
        """

    def count_rows(self) -> list[int]:
        """Returns the number of rows of each chunk of this rank."""

    def evaluate_residuals(self, theta: Tensor) -> Tensor:
        """Computes the residuals r at θ, a number for each row of this rank."""

    def sort_by_chunk(self, values: Tensor) -> Tensor:
        """Sorts a number for each row of this rank, from residuals' order to `evaluate_rows`'."""

    def pull_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Computes Jᵀw over each chunk, (C, n), for weights w, one for each row of this rank."""

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes JᵀJ v over each chunk, (C, n), for a vector v (n,)."""

    def sketch_rows(self, theta: Tensor, signs: Tensor, groups: int) -> Tensor:
        """Computes this rank's rows of the sketch S [r J], (C · groups, 1 + n).

        The rows of [r J] of each chunk are divided into groups. Each group gives one row of the
        sketch, the sum of its rows with their signs.

        Args:
            theta: θ (n,).
            signs: ± 1 for every row of all ranks.
            groups: the number of groups in each chunk.
        """

    def sum_groups(self, values: Tensor, signs: Tensor, groups: int) -> Tensor:
        """Computes this rank's part of S v, (C · groups,), S as in `sketch_rows`.

        Args:
            values: v, a number for each row of this rank.
            signs, groups: as there.
        """


class CellRows(Protocol):
    """Rows [r J] of consecutive chunks by the cells of a coupling that they lie in."""

    def sum_grams(self, first: int, last: int) -> dict[int, Tensor]:
        """Computes JᵀJ of each cell that has rows in some of the chunks, by the cell's number.

        The products of the single chunks are added along the complete binary tree over these
        chunks. Rows and columns are those of the cell's pieces, one after the other, and what
        lies above the diagonal is undefined.

        Args:
            first, last: the chunks first … last - 1, a power of two of them.
        """

    def list_columns(self, number: int) -> list[list[Tensor]]:
        """The rows of each chunk that depend on a piece, by its parameters alone, (k, p) each."""

    def scale(self, scaling: BlockScaling) -> "CellRows":
        """The same by z = R θ."""


@runtime_checkable
class CoupledLoss(LeastSquaresLoss, Protocol):
    """A least-squares loss of which few parameters have rows of J in common.

    Attributes:
        coupling: which; None where all may have.
    """

    coupling: Coupling | None

    def evaluate_cell_rows(self, theta: Tensor, first: int, last: int) -> CellRows:
        """Computes the rows [r J] of some chunks by cells.

        Args:
            theta: θ (n,).
            first, last: the chunks first … last - 1 of this rank.
        """


@runtime_checkable
class TracedLoss(SampledLoss, Protocol):
    """A loss that runs in the compiled kernels as far as these have its operations.

    Attributes:
        untraced: the name of an operation that they do not have, because of which a part of the
            loss stays in torch. None where there is none.
    """

    untraced: str | None


@runtime_checkable
class BatchedLoss(SampledLoss, Protocol):
    """A loss that can be taken over any part of its samples."""

    def subset(self, chosen: Tensor) -> SampledLoss:
        """Makes the same loss over some samples, which stay in their chunks.

        Args:
            chosen: the numbers of the samples among those of all ranks, in ascending order. A chunk
                may be left without any.
        """


@runtime_checkable
class StratifiedLoss(BatchedLoss, Protocol):
    """A loss with several kinds of samples, such as points inside and points on the boundary.

    The loss is a sum over the kinds, and each kind contributes the mean over its samples. The same
    holds for a loss over a part of the samples, which should contain some of every kind.

    Attributes:
        strata: the number of samples of each kind. Samples are numbered kind after kind.
    """

    strata: tuple[int, ...]


@runtime_checkable
class FiniteSumLoss(BatchedLoss, Protocol):
    """A loss that can be taken over any part of its samples, and has products with its Hessian."""

    def multiply_hessians(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes Σ_j ∇²ℓ_j(θ) v over each chunk, (C, n), for a vector v (n,)."""

    def subset(self, chosen: Tensor) -> "FiniteSumLoss": ...


@runtime_checkable
class PortableLoss(FiniteSumLoss, Protocol):
    """A loss whose samples can be sent from the ranks that hold them to all others."""

    def gather_samples(self, chosen: Tensor, communicator: Communicator) -> FiniteSumLoss:
        """Sends some samples to all ranks, and makes the loss over them; collective.

        Args:
            chosen: the numbers of the samples in any order, equal on all ranks.
            communicator: all ranks that hold samples.

        Returns:
            The loss over these samples as one chunk, which every rank holds whole. They are
            numbered from 0, in the order of `chosen`.
        """

    def evaluate_sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """Computes ∇ℓ_j(θ) (n,) of one sample, named by its place, from 0, on this rank."""
