"""What the runs of a row came to beside what is published of it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.suite.plan import Case, Plan
from hpctrain.store.run_file import Run

# How much slower than the published time a win may be.
SLOWER = 2


@dataclass(frozen=True)
class Result:
    """What the runs of a row came to, one a seed, all of the same time at most."""

    case: Case
    runs: Sequence[Run | None]

    @cached_property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run is not None]

    @cached_property
    def errors(self) -> list[float]:
        """At the end of each run."""
        return [float(self._measure(run)[-1]) for run in self.finished]

    @cached_property
    def seconds(self) -> list[float]:
        """Of training, of each run."""
        return [float(run.history["seconds"][-1]) for run in self.finished]

    @cached_property
    def seconds_to_published(self) -> list[float]:
        """Of training, until the published error was reached first; ∞ where it was not."""
        return [self._find_first(run) for run in self.finished]

    @property
    def ratio(self) -> float:
        """The median error over the published one; NaN where there is none of either."""
        published = self.case.row.error
        if published is None or not self.errors:
            return math.nan
        return statistics.median(self.errors) / published

    @property
    def is_won(self) -> bool:
        """Whether the median error is at or below the published one."""
        return self.ratio <= 1

    @property
    def is_lost(self) -> bool:
        return self.ratio > 1

    @property
    def is_in_time(self) -> bool:
        """Whether the published error was reached in at most twice the published time, if known."""
        asked = self.case.row.seconds
        return asked is None or statistics.median(self.seconds_to_published) <= SLOWER * asked

    def _measure(self, run: Run) -> np.ndarray:
        """What is compared, at each record where it was measured; else NaN, but for the last."""
        measure, unknowns = self.case.row.measure, self.case.problem.equations.unknowns
        values = np.append(run.history[measure], run.final[measure])
        if measure not in unknowns:
            return values
        true = unknowns[measure].true
        return np.abs(values - true) / abs(true)

    def _find_first(self, run: Run) -> float:
        published, history = self.case.row.error, run.history
        if published is None:
            return math.nan
        is_hit = self._measure(run) <= published
        if self.case.windows > 1:  # before the last one, errors are of a part of the time
            is_hit[:-1] &= history["slab"] == self.case.windows
        seconds = np.append(history["seconds"], history["seconds"][-1])[is_hit]
        return float(seconds[0]) if len(seconds) else math.inf


def collect(plans: Sequence[Plan], cases: Sequence[Case]) -> list[Result]:
    """Each row as it came out in the first time in which it was won, or the longest that was run.

    Args:
        plans: by their time, the shortest first.
        cases: the rows.
    """
    return [_choose(plans, case) for case in cases]


def _choose(plans: Sequence[Plan], case: Case) -> Result:
    results = [Result(case, [plan.read(case, seed) for seed in plan.seeds]) for plan in plans]
    run = [each for each in results if each.finished] or results[:1]
    return next((each for each in run if each.is_won), run[-1])
