"""What the runs of a row came to beside what is published of it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.suite.plan import Case, Plan
from benchmarks.suite.rows import POOLED
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
        """At the end of each run; ∞ where not all windows of time were reached."""
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
        """What is compared, at each record where it was measured, else NaN, and at the end.

        Of a run in windows of time the end alone counts: what was measured before, or of its last
        θ, is the error of one window.
        """
        measure, equations = self.case.row.measure, self.case.problem.equations
        if self.case.windows > 1:
            before = np.full(len(run.history["seconds"]), math.nan)
            return np.append(before, self._measure_windows(run))
        if measure == POOLED:
            return _pool_errors(run, equations.fields)
        values = np.append(run.history[measure], run.final[measure])
        if measure not in equations.unknowns:
            return values
        true = equations.unknowns[measure].true
        return np.abs(values - true) / abs(true)

    def _measure_windows(self, run: Run) -> float:
        """The error over all of time; ∞ where the run did not come to the last window."""
        measure, fields = self.case.row.measure, self.case.problem.equations.fields
        if run.history["slab"][-1] < self.case.windows:
            return math.inf
        squares = {name: _sum_squares(run, name, len(fields)) for name in fields}
        if measure == POOLED:
            off, size = (sum(each) for each in zip(*squares.values(), strict=True))
            return math.sqrt(off / size)
        errors = {f"error_{name}": math.sqrt(off / size) for name, (off, size) in squares.items()}
        return errors.get(measure, max(errors.values()))

    def _find_first(self, run: Run) -> float:
        published = self.case.row.error
        if published is None:
            return math.nan
        is_hit = self._measure(run) <= published
        seconds = np.append(run.history["seconds"], run.history["seconds"][-1])[is_hit]
        return float(seconds[0]) if len(seconds) else math.inf


def _sum_squares(run: Run, field: str, fields: int) -> tuple[float, float]:
    """Σ (u_NN − u)² and Σ u² of a field at the test points, at the end of a run."""
    ending = f"_{field}" if fields > 1 else ""
    assert run.solution is not None
    u, true = (run.solution[f"{what}{ending}"] for what in ("prediction", "reference"))
    return float(((u - true) ** 2).sum()), float((true**2).sum())


def _pool_errors(run: Run, fields: Sequence[str]) -> np.ndarray:
    """See `POOLED`, at each record and at the end."""
    sizes = {name: _sum_squares(run, name, len(fields))[1] for name in fields}
    errors = {f: np.append(run.history[f"error_{f}"], run.final[f"error_{f}"]) for f in fields}
    together = sum(size * errors[name] ** 2 for name, size in sizes.items())
    return np.sqrt(together / sum(sizes.values()))


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
