"""What runs are judged by, beside their loss: an error that falls, or an accuracy that rises."""

from dataclasses import dataclass

import numpy as np

from hpctrain.store.run_file import Run

DECADES = tuple(10.0**-power for power in range(1, 9))


@dataclass(frozen=True)
class Measure:
    """A column of the history that says how good the parameters are.

    Attributes:
        column: its name in the history, and in a job's `[stop]`.
        name: in tables.
        axis: its name on an axis.
        marks: values whose first record tables tell, with the job's own.
        rises: whether more is better.
    """

    column: str
    name: str
    axis: str
    marks: tuple[float, ...]
    rises: bool = False

    @property
    def reaching(self) -> str:
        """What a record is that has come to a mark, in words."""
        return f"at or {'above' if self.rises else 'below'} {self.article} {self.name}"

    @property
    def article(self) -> str:
        return "an" if self.name[0] in "aeiou" else "a"

    @property
    def sign(self) -> str:
        return ">=" if self.rises else "<="

    @property
    def worst(self) -> float:
        """What stands for a run that diverged."""
        return 0.0 if self.rises else float("inf")

    def reached(self, values: np.ndarray, mark: float) -> np.ndarray:
        """Which values are as good as a mark, or better; NaN is not."""
        return values >= mark if self.rises else values <= mark


ERROR = Measure("error", "error", "relative error", DECADES)
ACCURACY = Measure(
    "test_accuracy",
    "test accuracy",
    "test accuracy",
    (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99),
    rises=True,
)
SUBOPTIMALITY = Measure("suboptimality", "suboptimality", "L - L*", DECADES)
MEASURES = (ERROR, ACCURACY, SUBOPTIMALITY)


def measure_of(run: Run) -> Measure:
    """The measure that a run has a column of; the error where it has none."""
    return next((each for each in MEASURES if each.column in run.history), ERROR)
