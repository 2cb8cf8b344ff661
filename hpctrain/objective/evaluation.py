"""The loss as a function of the parameter vector θ, evaluated by a group of ranks together.

    L(θ) = (1/|D|) Σ_j ℓ_j(θ)

A problem computes sums of ℓ_j over chunks of samples (`SampledLoss`). An `Objective` adds these
sums along a fixed binary tree over all chunks. The bits of the result are equal on
all ranks, and the same for any number of ranks. The objective also counts the work of every
evaluation (`Counts`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange, Region
from hpctrain.errors import InputError
from hpctrain.objective.counts import Counts
from hpctrain.objective.division import Division
from hpctrain.objective.losses import (
    BatchedLoss,
    FiniteSumLoss,
    LeastSquaresLoss,
    PortableLoss,
    SampledLoss,
    StratifiedLoss,
    TracedLoss,
)
from hpctrain.objective.residuals import Residuals
from hpctrain.objective.smooth import Evaluation
from hpctrain.objective.source import BoundSource, DivisibleSource, LossSource
from hpctrain.parallel.communicator import Communicator


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
        self.samples = samples
        self.chunks = chunks
        self.threads = threads
        self._share = share
        self._source = source
        self._division = Division(communicator, samples, chunks, counts, fraction, threads)

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
    def counts(self) -> Counts:
        """Where the work of evaluations is added; others may be put in their place."""
        return self._division.counts

    @counts.setter
    def counts(self, counts: Counts) -> None:
        self._division = replace(self._division, counts=counts)

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
        return Objective.of(self.source, communicator, self.chunks, self.threads)

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
        share = source.share_samples(chosen, self.chunks, rank, ranks, self.threads)
        counts = Counts(self.counts.loss_cost, self.counts.gradient_cost)
        fraction = len(chosen) / self.samples
        return Objective(share, communicator, len(chosen), self.chunks, counts, fraction)

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

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Evaluates L at θ (n,).

        The gradient at θ, if it is asked of the result later, costs another pass over the samples.

        Raises:
            InputError: θ has another shape.
        """
        self._check_shape(theta)
        loss = self._division.sum(self._share.sum_losses(theta))
        self._division.count_losses(self._share.loss_cost)
        return Evaluation(self, theta, float(loss) / self.samples)

    def evaluate_with_gradient(self, theta: Tensor) -> Evaluation:
        """Evaluates L and ∇L at θ (n,) by one pass over the samples and one sum over the ranks.

        Raises:
            InputError: θ has another shape.
        """
        self._check_shape(theta)
        total = self._division.sum(self._share.sum_losses_and_gradients(theta))
        self._division.count_gradients(self._share.gradient_cost)
        return Evaluation(self, theta, float(total[0]) / self.samples, total[1:] / self.samples)

    def _check_shape(self, theta: Tensor) -> None:
        if theta.shape != (self.parameters,):
            raise InputError(
                f"theta of shape {tuple(theta.shape)} is not allowed: ({self.parameters},), a"
                " number for each parameter"
            )

    def multiply_hessian(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes ∇²L(θ) v (n,) for a vector v (n,), by one sum over the ranks.

        It counts as two gradients, since it differentiates a gradient.

        Raises:
            TypeError: the loss has no products with its Hessian; see `has_subsets`.
        """
        total = self._division.sum(self._finite_sum.multiply_hessians(theta, v))
        self._division.count_products(2 * self._share.gradient_cost)
        return total / self.samples

    @property
    def residuals(self) -> Residuals:
        """The residuals of which the loss is the mean of squares, and their Jacobian.

        Raises:
            TypeError: the loss is no sum of squared residuals; see `has_residuals`.
        """
        if isinstance(self._share, LeastSquaresLoss):
            return Residuals(self._share, self._division)
        raise TypeError(f"{type(self._share).__name__} is not a sum of squared residuals")

    def copy_uncounted(self) -> "Objective":
        """Makes an objective of the same loss with new counts.

        Checks and measurements evaluate the loss through it, since their work is not the method's.
        """
        counts = Counts(self.counts.loss_cost, self.counts.gradient_cost)
        share, ranks = self._share, self.communicator
        return Objective(share, ranks, self.samples, self.chunks, counts, self._division.fraction)

    def restrict(self, region: Region, theta: Tensor, counts: Counts | None = None) -> "Objective":
        """Makes L a function of the parameters R θ (m,) of a region, with all others kept as in θ.

        Args:
            region: which parameters vary, such as a block of layers.
            theta: θ (n,), which gives the other parameters their values.
            counts: where its work is added; by default where that of this objective is.
        """
        counts = self.counts if counts is None else counts
        share = self._share.restrict(region, theta)
        counts.loss_work += self._division.fraction * share.prefix_cost
        return Objective(
            share, self.communicator, self.samples, self.chunks, counts, self._division.fraction
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
        fraction = self._division.fraction * len(chosen) / self.samples
        return Objective(share, self.communicator, len(chosen), self.chunks, self.counts, fraction)

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
        self._division.count_losses(cost)
        for each in leaves:
            yield self._division.sum(each)

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
        fraction = self._division.fraction * len(chosen) / self.samples
        return Objective(share, alone, len(chosen), 1, self.counts, fraction)

    def evaluate_sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """Computes ∇ℓ_j(θ) (n,) of one sample, without messages.

        It is for objectives that `gather_samples` made.

        Args:
            place: the place of the sample among those that were gathered, from 0.
            theta: θ (n,).
        """
        self._division.count_gradients(self._share.gradient_cost / self.samples)
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
    def _finite_sum(self) -> FiniteSumLoss:
        if isinstance(self._share, FiniteSumLoss):
            return self._share
        raise TypeError(f"{type(self._share).__name__} has no products by its Hessian")
