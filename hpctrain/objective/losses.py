"""What a problem's loss gives to its objective: sums over the chunks of samples that a rank holds.

    L(θ) = (1/|D|) Σ_j ℓ_j(θ)

Every loss is a `SampledLoss`; the other protocols say what some can do beyond it.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import Region
from hpctrain.linalg.block_layout import Layout
from hpctrain.parallel.communicator import Communicator


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
    """A loss ℓ_j = Σ_i r_ij² of residuals, with their Jacobian.

    Its rows are the residuals of all samples; a share holds those of its own samples.

    Attributes:
        rows: their number over the whole set.
        chunks_at_a_time: 2^k, as many chunks as have their rows of J in memory at once.
    """

    rows: int
    chunks_at_a_time: int

    def add_gauss_newton(
        self, theta: Tensor, first: int, last: int, G: Tensor, layout: Layout
    ) -> None:
        """G += JᵀJ in the lower triangle of G, its block rows at `Layout.places`.

        J is the Jacobian of the residuals at the samples of this share's chunks first … last - 1,
        2^k of them, over which JᵀJ is summed along the complete binary tree before it is added.
        """

    def evaluate_curvatures(self, theta: Tensor, p: Tensor, h: float) -> Tensor:
        """r_pp of this share's rows: the second difference of r along p, at ± h p."""

    def pull_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Jᵀw over each chunk, (C, n), for weights w on this share's rows."""

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        """JᵀJ v over each chunk, (C, n)."""

    def sketch_rows(self, theta: Tensor, signs: Tensor, groups: int) -> Tensor:
        """S [r J] (C · groups, 1 + n): in each chunk, `groups` sums of rows with signs.

        `signs`, ± 1 for every row of the whole set.
        """

    def sum_groups(self, values: Tensor, signs: Tensor, groups: int) -> Tensor:
        """S v (C · groups,), of values v of this share's rows."""


@runtime_checkable
class TracedLoss(SampledLoss, Protocol):
    """A loss of which the kernels evaluate what they have operations for.

    Attributes:
        untraced: an operation for want of which a part stays in torch; None where there is none.
    """

    untraced: str | None


@runtime_checkable
class BatchedLoss(SampledLoss, Protocol):
    """A loss that may be taken over any of its samples."""

    def subset(self, chosen: Tensor) -> SampledLoss:
        """The same loss over those samples of each chunk that are among `chosen`.

        `chosen` are numbers of samples of the whole set, ascending; a chunk may be left empty.
        """


@runtime_checkable
class StratifiedLoss(BatchedLoss, Protocol):
    """A loss of several kinds of samples, of each of which a mini-batch is to have its share.

    A loss over some samples is the same sum over the kinds, each a mean over its own ones.

    Attributes:
        strata: samples of each kind in the whole set, numbered one kind after the other.
    """

    strata: tuple[int, ...]


@runtime_checkable
class FiniteSumLoss(BatchedLoss, Protocol):
    """A loss that may be taken over any of its samples, with its Hessian's products."""

    def multiply_hessians(self, theta: Tensor, v: Tensor) -> Tensor:
        """Σ ∇²ℓ_j v over each chunk, (C, n)."""

    def subset(self, chosen: Tensor) -> "FiniteSumLoss": ...


@runtime_checkable
class PortableLoss(FiniteSumLoss, Protocol):
    """A loss whose samples can travel from the ranks that hold them to all others."""

    def gather_samples(self, chosen: Tensor, communicator: Communicator) -> FiniteSumLoss:
        """The loss over `chosen`, in that order and as one chunk, held whole by every rank.

        Collective. In what is returned the samples are numbered from 0.
        """

    def evaluate_sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """∇ℓ_j(θ) (n,) of the sample at this place among those held."""
