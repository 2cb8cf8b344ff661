"""The stages of a run whose job has several solvers: where each ended, and what it cost."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hpctrain.results.summary import Summary
from hpctrain.store.run_file import Run


@dataclass(frozen=True)
class StageSpan:
    """A stage that has begun: the records of a run from `first` to `last`.

    Attributes:
        number: from 1.
        window: of time that it is in, from 1, where there are several.
        solver: its name.
        first: where the stage before ended, or the run began.
        reason: why it ended; empty while the run goes on, and where it was killed.
    """

    number: int
    window: int
    solver: str
    first: int
    last: int
    reason: str

    def measure_cost(self, run: Run, column: str) -> float:
        """What was spent in it, of what a history column counts from the run's start."""
        values = run.history[column]
        return float(values[self.last] - values[self.first])


def find_stages(run: Run) -> list[StageSpan]:
    """The stages of a run that have begun; none where its job has one solver."""
    return list(_find(run)) if len(run.history.get("stage", ())) else []


def find_ends(run: Run) -> list[int]:
    """The records at which a stage ended and another one followed."""
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
