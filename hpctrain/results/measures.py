"""The measures by which runs are judged besides their loss, such as an error or an accuracy."""

from dataclasses import dataclass

import numpy as np

from hpctrain.job.stop import list_criteria
from hpctrain.store.run_file import Run


@dataclass(frozen=True)
class Measure:
    """A column of the history that says how good the parameters are; see `job.stop.Shown`.

    Attributes:
        key: the setting of a job's `[stop]` that asks for a value of it.
        column: its name in the history.
        rises: whether larger values are better.
    """

    key: str
    column: str
    name: str
    axis: str
    marks: tuple[float, ...]
    rises: bool = False

    @property
    def reaching(self) -> str:
        """Words for a record that has reached a mark."""
        return f"at or {'above' if self.rises else 'below'} {self.article} {self.name}"

    @property
    def article(self) -> str:
        return "an" if self.name[0] in "aeiou" else "a"

    @property
    def sign(self) -> str:
        return ">=" if self.rises else "<="

    @property
    def worst(self) -> float:
        """The value that stands for a run that diverged."""
        return 0.0 if self.rises else float("inf")

    def is_reached(self, values: np.ndarray, mark: float) -> np.ndarray:
        """Says which values are as good as a mark, or better; NaN is not."""
        return values >= mark if self.rises else values <= mark


def list_measures() -> list[Measure]:
    """Lists a measure for each stop criterion that tables and figures show."""
    return [
        Measure(row.key, row.quantity, row.shown.name, row.shown.axis, row.shown.marks, row.rises)
        for row in list_criteria()
        if row.shown
    ]


def find_measure(run: Run) -> Measure:
    """Finds the measure of which a run has a column; the error where it has none."""
    measures = list_measures()
    return next((each for each in measures if each.column in run.history), measures[0])
