"""Networks of halved depth and the transfers between them, the finest first.

Depth d counts the levels below the finest one, which is the network of the job: d = 0 … L - 1.

Source: Kopaničáková and Krause, SIAM Journal on Scientific Computing 45(3) (2023), arXiv
2107.07572.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.networks.transfers import Rule, Transfer
from hpctrain.objective import LossSource, Objective, Point


@runtime_checkable
class CoarsenableSource(LossSource, Protocol):
    """A source of a network that can be made smaller."""

    def coarsen(self, rule: Rule) -> tuple[LossSource, Transfer]:
        """The same samples for a network of half the depth, and the transfer between the two."""


def can_coarsen(objective: Objective) -> bool:
    """Whether `coarsen` is there."""
    return isinstance(objective.source, CoarsenableSource)


def coarsen(objective: Objective, rule: Rule) -> tuple[Objective, Transfer]:
    """The loss of a network of half the depth on the same ranks, and the transfer to it.

    Its work is added to the same counts, in units of the objective's network.

    Raises:
        NetworkError: the network has no half.
    """
    source = objective.source
    if not isinstance(source, CoarsenableSource):
        raise TypeError(f"the network of {type(source).__name__} has no coarser ones")
    coarse, transfer = source.coarsen(rule)
    L = objective
    return Objective.of(coarse, L.communicator, L.chunks, L.threads, L.counts), transfer


@dataclass(frozen=True)
class Hierarchy:
    """The networks of all levels.

    Attributes:
        networks: the loss of each, by depth.
        transfers: between the networks at depths d and d + 1.
    """

    networks: Sequence[Objective]
    transfers: Sequence[Transfer]

    @classmethod
    def halve(cls, objective: Objective, levels: int, rule: Rule) -> "Hierarchy":
        """The network of an objective, and L - 1 of half the depth of the one before.

        Raises:
            InputError: the network cannot be halved so often.
        """
        networks, transfers = [objective], list[Transfer]()
        for _ in range(1, levels):
            try:
                coarse, transfer = coarsen(networks[-1], rule)
            except InputError as error:
                raise InputError(f"solver.levels = {levels} is not allowed: {error}") from error
            networks.append(coarse)
            transfers.append(transfer)
        return cls(networks, transfers)

    def sample(self, theta: Tensor, depth: int) -> Tensor:
        """Parameters of the network at a depth, from every other block of each finer one."""
        for transfer in self.transfers[:depth]:
            theta = transfer.sample(theta)
        return theta

    def prolong(self, point: Point, depth: int) -> Point:
        """A point of the network at a depth, as one of the finest: θ and the gradient prolonged."""
        theta, gradient = point.theta, point.gradient
        for transfer in reversed(self.transfers[:depth]):
            theta, gradient = transfer.prolong(theta), transfer.prolong(gradient)
        return Point(theta, point.loss, gradient)
