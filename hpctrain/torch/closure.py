"""The loss that a closure computes, as a function of all parameters in one vector θ.

A closure gives one rank's loss, the mean over its own samples. On several ranks the loss is

    L(θ) = Σ_r N_r L_r(θ) / Σ_r N_r,

with the N_r samples of rank r, summed along the fixed tree, in which each rank holds one chunk that
is not zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange, Region
from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import share_chunks

Closure = Callable[[], Tensor | float]


class WholeLoss(ABC):
    """A loss of which one sum over all samples of this rank is known; see `SampledLoss`.

    Args:
        parameters: n.
        like: a tensor of its type and device.
        chunks: that this rank holds; all but the first are zero.
        weight: of the first.
    """

    loss_cost, gradient_cost, prefix_cost = 1, 1, 0

    def __init__(self, parameters: int, like: Tensor, chunks: int, weight: float) -> None:
        self.parameters = parameters
        self.dtype, self.device = like.dtype, like.device
        self.chunks, self.weight = chunks, weight

    @abstractmethod
    def evaluate(self, theta: Tensor) -> tuple[float, Tensor]:
        """Evaluates the loss and its gradient (n,) at θ (n,)."""

    def sum_losses(self, theta: Tensor) -> Tensor:
        """Evaluates the sums of the loss over each chunk, (C,)."""
        sums = theta.new_zeros(self.chunks)
        sums[0] = self.weight * self.evaluate(theta)[0]
        return sums

    def sum_losses_and_gradients(self, theta: Tensor) -> Tensor:
        """Evaluates the sums of the loss and its gradient over each chunk, (C, 1 + n)."""
        loss, gradient = self.evaluate(theta)
        sums = theta.new_zeros(self.chunks, 1 + self.parameters)
        sums[0, 0], sums[0, 1:] = self.weight * loss, self.weight * gradient
        return sums


class ClosureLoss(WholeLoss):
    """The loss that the closure of a step computes where the parameters are θ.

    Args:
        tensors: the parameters, one after the other in θ.
        chunks, weight: as `WholeLoss` takes them.
    """

    def __init__(self, tensors: Sequence[Tensor], chunks: int, weight: float) -> None:
        super().__init__(sum(each.numel() for each in tensors), tensors[0], chunks, weight)
        self._tensors = tensors
        self._sizes = [each.numel() for each in tensors]
        self._closure: Closure | None = None
        self._known: tuple[Tensor, float, Tensor] | None = None

    @contextmanager
    def call(self, closure: Closure) -> Iterator[None]:
        """Evaluates by a closure while entered; what an earlier one gave is forgotten."""
        self._closure, self._known = closure, None
        try:
            yield
        finally:
            self._closure, self._known = None, None

    def read(self) -> Tensor:
        """Copies the parameters into a vector θ (n,)."""
        return torch.cat([each.detach().reshape(-1) for each in self._tensors])

    def write(self, theta: Tensor) -> None:
        """Copies θ (n,) into the parameters."""
        for tensor, part in zip(self._tensors, theta.split(self._sizes), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def write_gradient(self, gradient: Tensor) -> None:
        """Copies a gradient (n,) into those of the parameters."""
        for tensor, part in zip(self._tensors, gradient.split(self._sizes), strict=True):
            tensor.grad = part.view_as(tensor).clone()

    def evaluate(self, theta: Tensor) -> tuple[float, Tensor]:
        """Calls the closure, unless it was called at θ last.

        Raises:
            InputError: it returns no number, or leaves no gradient.
        """
        if self._known is None or not torch.equal(self._known[0], theta):
            self._known = theta.clone(), *self._call_at(theta)
        return self._known[1:]

    def _call_at(self, theta: Tensor) -> tuple[float, Tensor]:
        assert self._closure is not None, "a step evaluates within `call`"
        self.write(theta)
        for tensor in self._tensors:
            tensor.grad = None
        with torch.enable_grad():
            returned = self._closure()
        try:
            loss = float(returned.detach() if isinstance(returned, Tensor) else returned)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the closure returned {type(returned).__name__}: it must return the loss, a number"
            ) from error
        if all(tensor.grad is None for tensor in self._tensors):
            raise InputError("the closure left no gradient: it must call backward() on the loss")
        return loss, torch.cat([_flatten_gradient(tensor) for tensor in self._tensors])

    def restrict(self, region: Region, theta: Tensor) -> "BlockLoss":
        """Makes it a function of the parameters of a region, with all others kept as in θ."""
        return BlockLoss(self, region, theta)


class BlockLoss(WholeLoss):
    """A loss as a function of R θ (m,), the parameters outside the region frozen as in θ (n,)."""

    def __init__(self, whole: ClosureLoss, region: Region, theta: Tensor) -> None:
        super().__init__(region.size, theta, whole.chunks, whole.weight)
        self._whole, self._region, self._theta = whole, region, theta

    def evaluate(self, theta: Tensor) -> tuple[float, Tensor]:
        whole = self._theta.clone()
        self._region.replace(whole, theta)
        loss, gradient = self._whole.evaluate(whole)
        return loss, self._region.restrict(gradient)

    def restrict(self, region: Region, theta: Tensor) -> "BlockLoss":
        raise TypeError("a block's loss has no layers")


class ClosureSource:
    """The loss of a closure as a problem is to an objective; see `LossSource`.

    Args:
        groups: the parameters, of which each group is a layer; of one group each tensor is.
        ranks: which share the loss.
        samples: of this rank, N_r.

    Attributes:
        own_samples: N_r, which no other rank can have: a `BoundSource`.
    """

    def __init__(
        self, groups: Sequence[Sequence[Tensor]], ranks: Communicator, samples: int
    ) -> None:
        tensors = [tensor for group in groups for tensor in group]
        self.chunks = 1 << (ranks.size - 1).bit_length()
        first, last = share_chunks(self.chunks, ranks.size)[ranks.rank]
        self.own_samples = samples
        is_alone = ranks.size == 1
        self.samples = 1 if is_alone else sum(ranks.allgather(samples))
        self.loss = ClosureLoss(tensors, last - first, 1 if is_alone else samples)
        parts = groups if len(groups) > 1 else [[tensor] for tensor in tensors]
        sizes = [tuple(tensor.numel() for tensor in part) for part in parts]
        stops = accumulate(map(sum, sizes), initial=0)
        self.layers = [
            LayerRange(start, stop, stop - start, tensors=its)
            for (start, stop), its in zip(pairwise(stops), sizes, strict=True)
        ]

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> ClosureLoss:
        """The loss of this rank's samples."""
        return self.loss


def _flatten_gradient(tensor: Tensor) -> Tensor:
    if tensor.grad is None:
        return torch.zeros_like(tensor).reshape(-1)
    dense = tensor.grad.to_dense() if tensor.grad.is_sparse else tensor.grad
    return dense.detach().reshape(-1)
