"""What runs are judged by, beside their loss: an error that falls, or an accuracy that rises."""

from dataclasses import dataclass

import numpy as np

from hpctrain.job.stop import list_criteria
from hpctrain.store.run_file import Run


@dataclass(frozen=True)
class Measure:
    """A column of the history that says how good the parameters are; see `job.stop.Shown`.

    Attributes:
        key: by which a job's `[stop]` asks for a value of it.
        column: its name in the history.
        rises: whether more is better.
    """

    key: str
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

    def is_reached(self, values: np.ndarray, mark: float) -> np.ndarray:
        """Which values are as good as a mark, or better; NaN is not."""
        return values >= mark if self.rises else values <= mark


def list_measures() -> list[Measure]:
    """A measure for each stop criterion that tables and figures show."""
    return [
        Measure(row.key, row.quantity, row.shown.name, row.shown.axis, row.shown.marks, row.rises)
        for row in list_criteria()
        if row.shown
    ]


def find_measure(run: Run) -> Measure:
    """The measure that a run has a column of; the first, the error, where it has none."""
    measures = list_measures()
    return next((each for each in measures if each.column in run.history), measures[0])
