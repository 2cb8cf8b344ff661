"""Networks of halved depth and the transfers between them, the finest first.

Depth d counts the levels below the finest one, which is the network of the job: d = 0 … L - 1.

Source: Kopaničáková and Krause, SIAM Journal on Scientific Computing 45(3) (2023), arXiv
2107.07572.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.networks.transfers import Rule, Transfer
from hpctrain.objective import Objective, Point


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
                coarse, transfer = networks[-1].coarsened(rule)
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
