"""Finds the stages of a run whose job has several solvers: where each ended, and what it cost."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hpctrain.results.summary import Summary
from hpctrain.store.run_file import Run


@dataclass(frozen=True)
class StageSpan:
    """A stage that has begun, with the records `first` … `last` of a run.

    Attributes:
        number: of the stage, from 1.
        window: the number of its window of time, from 1, where there are several.
        solver: the name of its solver.
        first: the last record of the stage before, or the first one of the run.
        last: its last record.
        reason: why it ended; empty while the run goes on, and if it was killed.
    """

    number: int
    window: int
    solver: str
    first: int
    last: int
    reason: str

    def measure_cost(self, run: Run, column: str) -> float:
        """Returns what the stage cost, by a column that counts from the begin of the run."""
        values = run.history[column]
        return float(values[self.last] - values[self.first])


def find_stages(run: Run) -> list[StageSpan]:
    """Lists the stages of a run that have begun; none where its job has one solver."""
    return list(_find(run)) if len(run.history.get("stage", ())) else []


def find_ends(run: Run) -> list[int]:
    """Lists the records at which a stage ended and another one followed."""
    return [span.last for span in find_stages(run)[:-1]]


def _find(run: Run) -> Iterator[StageSpan]:
    reached, first = run.history["stage"], 0
    begun = max(int(reached[-1]), len(run.stage_reasons))
    stages = Summary(run).list_stages()
    for number in range(1, begun + 1):
        window, place = divmod(number - 1, len(stages))
        # A stage may end before its first step: then it has no record of its own.
        last = int(np.flatnonzero(reached <= number)[-1])
        reason = run.stage_reasons[number - 1] if number <= len(run.stage_reasons) else ""
        solver = str(stages[place]["name"])
        yield StageSpan(number, window + 1, solver, first, last, reason)
        first = last
