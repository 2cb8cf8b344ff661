"""A residual that reads some of the networks beside each other: those of the subdomains of a cell.

It is a residual of the parameters of these networks alone, θ[entries], on the few chunks that its
samples lie in. Its sums over other chunks, and its derivatives by other parameters, are zero.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetEvaluator
from hpctrain.kernels.residual import ResidualLoss
from hpctrain.networks.joint import JointNetwork


def find_filled(bounds: Sequence[int]) -> tuple[int, int]:
    """The first chunk that has samples, and one past the last; at least one has.

    Args:
        bounds: chunk c consists of the samples bounds[c] … bounds[c + 1] - 1.
    """
    first = max(c for c, bound in enumerate(bounds) if bound == bounds[0])
    last = min(c for c, bound in enumerate(bounds) if bound == bounds[-1])
    return first, last


class MemberResidual:
    """See `residual.ResidualLoss`, and the module.

    Args:
        loss: of the parameters of the members, over the chunks that have samples.
        network: all networks.
        numbers: the members' numbers.
        unknowns: q.
        bounds: of all chunks, in samples.
    """

    def __init__(
        self,
        loss: ResidualLoss,
        network: JointNetwork,
        numbers: Sequence[int],
        unknowns: int,
        bounds: list[int],
    ) -> None:
        self.loss, self.untraced = loss, loss.untraced
        self._network, self._numbers, self._unknowns = network, tuple(numbers), unknowns
        self._bounds = bounds
        self.filled = find_filled(bounds)
        n = network.parameters
        behind = torch.arange(n, n + unknowns, device="cpu")
        self.entries = torch.cat([network.find_entries(numbers), behind])

    @property
    def jets(self) -> JetEvaluator:
        return self.loss.jets

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        return self.loss.evaluate_prefix(theta[self.entries], layer)

    def sum_losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        return self._spread(self.loss.sum_losses(theta[self.entries], first, activations))

    def sum_losses_and_gradients(
        self,
        theta: Tensor,
        first: int,
        last: int,
        activations: Tensor | None,
        *,
        unknowns_wanted: bool | None = None,
    ) -> Tensor:
        wanted = self.jets.includes_unknowns(last, unknowns_wanted)
        layers, q = self._network.layers, self._unknowns if wanted else 0
        size = 1 + layers[last].stop - layers[first].start + q
        total = theta.new_zeros(len(self._bounds) - 1, size)
        self.add_losses_and_gradients(
            total, theta, first, last, activations, unknowns_wanted=wanted
        )
        return total

    def add_losses_and_gradients(
        self,
        total: Tensor,
        theta: Tensor,
        first: int,
        last: int,
        activations: Tensor | None,
        *,
        factor: float = 1.0,
        unknowns_wanted: bool | None = None,
    ) -> None:
        """Adds what `sum_losses_and_gradients` gives, times a factor, to (C, …)."""
        wanted = self.jets.includes_unknowns(last, unknowns_wanted)
        own = self.loss.sum_losses_and_gradients(
            theta[self.entries], first, last, activations, unknowns_wanted=wanted
        )
        start = self._network.layers[first].start
        entries = self._network.find_entries(self._numbers, first, last) - start
        stop = self._network.layers[last].stop - start
        behind = torch.arange(stop, stop + (self._unknowns if wanted else 0), device="cpu")
        self._add(total, own, torch.cat([entries.new_zeros(1), 1 + entries, 1 + behind]), factor)

    def evaluate_residuals(self, theta: Tensor) -> Tensor:
        return self.loss.evaluate_residuals(theta[self.entries])

    def regroup(self, bounds: list[int]) -> "MemberResidual":
        return self._move(self.loss.regroup(trim_bounds(bounds)), bounds)

    def select(self, chosen: Tensor, bounds: list[int]) -> "MemberResidual":
        return self._move(self.loss.select(chosen, trim_bounds(bounds)), bounds)

    def _move(self, loss: ResidualLoss, bounds: list[int]) -> "MemberResidual":
        return MemberResidual(loss, self._network, self._numbers, self._unknowns, bounds)

    def pull_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        total = theta.new_zeros(len(self._bounds) - 1, len(theta))
        self.add_pulled_back(total, theta, weights)
        return total

    def add_pulled_back(self, total: Tensor, theta: Tensor, weights: Tensor) -> None:
        """Adds what `pull_back` gives to (C, n + q)."""
        self._add(total, self.loss.pull_back(theta[self.entries], weights), self.entries)

    def evaluate_own_jacobian(
        self, theta: Tensor, first: int, last: int, entries: Tensor
    ) -> Tensor:
        """The rows [r, ∂r/∂θ[entries]] of samples as in `evaluate_jacobian`.

        Args:
            entries: all that the residual depends on, in the order wanted.
        """
        places = _locate(entries, self.entries)
        ahead = torch.cat([places.new_zeros(1), 1 + places])
        return self._evaluate_rows(theta, first, last)[:, ahead]

    def _evaluate_rows(self, theta: Tensor, first: int, last: int) -> Tensor:
        """The rows [r, ∂r/∂θ[self.entries]] of samples."""
        low, high = self.filled
        first, last = max(first, low) - low, min(last, high) - low
        if first >= last:
            return theta.new_empty(0, 1 + len(self.entries))
        return self.loss.evaluate_jacobian(theta[self.entries], first, last)

    def evaluate_jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        own = self._evaluate_rows(theta, first, last)
        whole = own.new_zeros(len(own), 1 + len(theta))
        whole[:, 0], whole[:, 1 + self.entries] = own[:, 0], own[:, 1:]
        return whole

    def multiply_jacobian(self, theta: Tensor, v: Tensor) -> Tensor:
        return self.loss.multiply_jacobian(theta[self.entries], v[self.entries])

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        own = self.loss.multiply_gauss_newton_chunks(theta[self.entries], v[self.entries])
        total = theta.new_zeros(len(self._bounds) - 1, len(theta))
        self._add(total, own, self.entries)
        return total

    def _add(self, total: Tensor, own: Tensor, places: Tensor, factor: float = 1.0) -> None:
        """Adds sums over the chunks that have samples to those of all, at some columns."""
        total[slice(*self.filled)].index_add_(1, places.to(total.device), own, alpha=factor)

    def _spread(self, own: Tensor) -> Tensor:
        """Sums over the chunks that have samples as sums over all (C, …)."""
        whole = own.new_zeros(len(self._bounds) - 1, *own.shape[1:])
        whole[slice(*self.filled)] = own
        return whole


def trim_bounds(bounds: list[int]) -> list[int]:
    """Bounds of the chunks that have samples."""
    first, last = find_filled(bounds)
    return bounds[first : last + 1]


def _locate(wanted: Tensor, entries: Tensor) -> Tensor:
    """Where numbers are among others."""
    order = torch.argsort(entries)
    return order[torch.searchsorted(entries[order], wanted)]
