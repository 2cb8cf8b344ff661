"""The error of a PINN against its reference, measured by all ranks together."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_array
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import reduce_leaves, shares

if TYPE_CHECKING:
    from hpctrain.problems.equations.problem import PinnProblem


class ErrorMonitor:
    """‖u_NN - u‖ / ‖u‖, and the same divided by ‖u_NN‖ as in Kopaničáková et al. 2024.

    Evaluated on the test grid, whose points ranks share; see `problems.base.Monitor`. An equation
    without a reference has neither.
    """

    known_columns: tuple[str, ...] = ("error", "error_paper")

    def __init__(
        self, problem: "PinnProblem", communicator: Communicator, chunks: int, threads: int
    ) -> None:
        rank, ranks = communicator.rank, communicator.size
        with communicator.timer.phase("validation"):
            self._grid = communicator.on_all(lambda: problem.error(chunks, rank, ranks, threads))
            if len(set(communicator.allgather(self._grid.reference is None))) > 1:
                raise InputError(f"{problem.pde.name}: reference is None for a part of the grid")
        known = self._grid.reference is not None
        self.columns = self.known_columns if known else ()
        self._problem = problem
        self._communicator = communicator
        self._chunks = chunks
        self._first = shares(chunks, ranks)[rank][0]

    def values(self, theta: Tensor) -> dict[str, float]:
        if self._grid.reference is None:
            return {}
        with self._communicator.timer.phase("validation"):
            nodes = reduce_leaves(self._grid.sums(theta), self._first)
            difference, exact, network = self._communicator.tree_sum(nodes, self._chunks).tolist()
        return {
            "error": _root_ratio(difference, exact),
            "error_paper": _root_ratio(difference, network),
        }

    def solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        """The field on its grid, with the reference and the coordinates."""
        with self._communicator.timer.phase("validation"):
            fields = {"prediction": self._gather(self._grid.prediction(theta))}
            if self._grid.reference is not None:
                fields["reference"] = self._gather(self._grid.reference)
        return fields | self._problem.grid_axes()

    def progress(self, values: Mapping[str, float]) -> str:
        return f"error {values['error']:.2e}" if values else ""

    def summary(self, values: Mapping[str, float]) -> str:
        if not values:
            return ""
        return (
            f"relative error {values['error']:.3e} (divided by |u_NN|: {values['error_paper']:.3e})"
        )

    def _gather(self, local: Tensor) -> np.ndarray:
        counts = self._communicator.allgather(len(local))
        values = self._communicator.allgather_rows(local, counts)
        return to_array(values).reshape(self._problem.pde.test_grid)


def _root_ratio(numerator: float, denominator: float) -> float:
    return math.sqrt(numerator / denominator) if denominator > 0 else math.nan
