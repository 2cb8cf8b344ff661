"""How many samples a classifier gets right, measured by all ranks together."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import reduce_leaves, shares

if TYPE_CHECKING:
    from hpctrain.problems.classification.problem import ClassificationProblem, CrossEntropy


def name_columns(train_accuracy: bool) -> tuple[str, ...]:
    """The columns of a monitor: of the test set, and of the training set where it is asked for."""
    sets = ("test", "train") if train_accuracy else ("test",)
    return tuple(f"{name}_{measure}" for name in sets for measure in ("accuracy", "loss"))


class AccuracyMonitor:
    """Accuracy and loss on the test set, and on the training set where the problem asks for it.

    Ranks share the samples; see `problems.base.Monitor`.
    """

    def __init__(
        self,
        problem: "ClassificationProblem",
        communicator: Communicator,
        chunks: int,
        threads: int,
    ) -> None:
        place = chunks, communicator.rank, communicator.size, threads
        with communicator.timer.phase("validation"):
            self._sets = {"test": problem.test_share(*place)}
            if problem.train_accuracy:
                self._sets["train"] = problem.share(*place)
        self.columns = name_columns(problem.train_accuracy)
        self._communicator = communicator
        self._chunks = chunks
        self._first = shares(chunks, communicator.size)[communicator.rank][0]

    def values(self, theta: Tensor) -> dict[str, float]:
        values: dict[str, float] = {}
        with self._communicator.timer.phase("validation"):
            for name, share in self._sets.items():
                loss, right, count = self._sum(share, theta)
                values |= {f"{name}_accuracy": right / count, f"{name}_loss": loss / count}
        return values

    def solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        return {}

    def progress(self, values: Mapping[str, float]) -> str:
        return f"test accuracy {values['test_accuracy']:.2%}"

    def summary(self, values: Mapping[str, float]) -> str:
        return ", ".join(
            f"{name} accuracy {values[f'{name}_accuracy']:.2%}"
            f" ({name} loss {values[f'{name}_loss']:.3e})"
            for name in self._sets
        )

    def _sum(self, share: "CrossEntropy", theta: Tensor) -> list[float]:
        nodes = reduce_leaves(share.scores(theta), self._first)
        return self._communicator.tree_sum(nodes, self._chunks).tolist()
