"""How many samples a classifier gets right, measured by all ranks together."""

from collections.abc import Iterable, Mapping

import numpy as np
from torch import Tensor

from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.classification.loss import CrossEntropy


def name_columns(sets: Iterable[str]) -> tuple[str, ...]:
    """The columns of a monitor of these sets of samples."""
    return tuple(f"{name}_{measure}" for name in sets for measure in ("accuracy", "loss"))


class AccuracyMonitor:
    """Accuracy and loss on sets of samples, which ranks share; see `problems.base.Monitor`.

    Args:
        sets: the chunks of each set that this rank holds, such as "test".
        communicator: of all ranks.
        chunks: of each set on all ranks.
    """

    def __init__(
        self, sets: Mapping[str, CrossEntropy], communicator: Communicator, chunks: int
    ) -> None:
        self.columns = name_columns(sets)
        self._sets = sets
        self._communicator = communicator
        self._chunks = chunks

    def measure(self, theta: Tensor) -> dict[str, float]:
        values: dict[str, float] = {}
        with self._communicator.timer.phase("validation"):
            for name, share in self._sets.items():
                loss, right, count = self._sum(share, theta)
                values |= {f"{name}_accuracy": right / count, f"{name}_loss": loss / count}
        return values

    def evaluate_solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        return {}

    def describe_progress(self, values: Mapping[str, float]) -> str:
        return f"test accuracy {values['test_accuracy']:.2%}"

    def describe_values(self, values: Mapping[str, float]) -> str:
        return ", ".join(
            f"{name} accuracy {values[f'{name}_accuracy']:.2%}"
            f" ({name} loss {values[f'{name}_loss']:.3e})"
            for name in self._sets
        )

    def _sum(self, share: CrossEntropy, theta: Tensor) -> list[float]:
        return self._communicator.sum_leaves(share.scores(theta), self._chunks).tolist()
