"""The runs of one job under several seeds, seen together: medians and ranges, in tables."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hpctrain.reasons import Reason
from hpctrain.study import tables
from hpctrain.study.summary import DECADES, Summary
from hpctrain.study.tables import Row

# Attribute of `Reached` and column of the history → its name in tables.
COSTS = {
    "iteration": "iterations",
    "gradient_evaluations": "gradient evals",
    "update_cost": "update cost",
    "seconds": "seconds",
    "parallel_seconds": "parallel s",
}
MODEL = (
    "parallel s: in each phase the CPU time of the slowest rank, plus communication as measured on"
    " the rank that waits least; a model, not a measurement"
)


class Spread(NamedTuple):
    """Median and range of the values of several seeds; NaN if any of them is unknown."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        known = np.fromiter(values, float)
        return cls(float(np.median(known)), float(known.min()), float(known.max()))

    def __str__(self) -> str:
        if math.isnan(self.median):
            return "-"
        if self.lowest == self.highest:
            return f"{self.median:.4g}"
        return f"{self.median:.4g} [{self.lowest:.3g}, {self.highest:.3g}]"


@dataclass(frozen=True)
class SeedRuns:
    """The runs of one job that differ by their seeds."""

    label: str
    runs: tuple[Summary, ...]

    @property
    def error(self) -> Spread:
        """The last errors; infinite where the loss became so."""
        return Spread.of(_at_end(summary, "error") for summary in self.runs)

    @property
    def loss(self) -> Spread:
        return Spread.of(_at_end(summary, "loss") for summary in self.runs)

    def cost(self, measure: str) -> Spread:
        """What the whole runs cost."""
        return Spread.of(final(summary, measure) for summary in self.runs)

    def reached(self, target: float) -> int:
        """How many seeds came down to an error."""
        return sum(summary.reached(target) is not None for summary in self.runs)

    def cost_to(self, target: float, measure: str) -> Spread:
        """What it cost to come down to an error; infinite for a seed that did not."""
        found = (summary.reached(target) for summary in self.runs)
        return Spread.of(math.inf if first is None else getattr(first, measure) for first in found)

    @property
    def ends(self) -> str:
        """Why the runs ended, and how many for each reason."""
        reasons = Counter(summary.run.stop_reason for summary in self.runs)
        if len(reasons) == 1:
            return next(iter(reasons))
        return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def column(summary: Summary, name: str) -> np.ndarray:
    """A column of the history or the parallel time; NaN where the run has none."""
    if name == "parallel_seconds":
        return summary.parallel_seconds
    history = summary.run.history
    return history.get(name, np.full(len(history["iteration"]), np.nan))


def final(summary: Summary, name: str) -> float:
    """The last finite value of a column; NaN if there is none."""
    values = column(summary, name)
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else math.nan


def _at_end(summary: Summary, name: str) -> float:
    diverged = summary.run.stop_reason == Reason.NON_FINITE.text
    return math.inf if diverged else final(summary, name)


def comparison(groups: Sequence[SeedRuns], style: str) -> str:
    """Tables of several jobs, one row each: what they reached, and what it cost.

    A seed that did not reach an error counts as infinitely expensive, and one whose loss became
    infinite as having an infinite error. As CSV: one row a job, a column a number.
    """
    if style == "csv":
        return tables.csv_text([_numbers(group, _targets(groups)) for group in groups])
    parts = [tables.table("At the end: median [range] over seeds", end_rows(groups), style)]
    rows = target_rows(groups)
    if rows:
        parts.append(tables.table("To the first record at or below an error", rows, style))
    return "\n\n".join([*parts, "\n".join(_notes(groups))]) + "\n"


def end_rows(groups: Sequence[SeedRuns]) -> list[Row]:
    """One row a job: where its runs ended, after what."""
    networks = len({summary.network for group in groups for summary in group.runs}) > 1
    return [
        {
            "solver": group.label,
            **({"network": group.runs[0].network} if networks else {}),
            "seeds": len(group.runs),
            "error": str(group.error),
            "loss": str(group.loss),
            **{name: str(group.cost(measure)) for measure, name in COSTS.items()},
            "stop reason": group.ends,
        }
        for group in groups
    ]


def target_rows(groups: Sequence[SeedRuns]) -> list[Row]:
    """One row for each error that any run came down to, and each job."""
    return [
        {
            "error": f"{target:g}",
            "solver": group.label,
            "reached": f"{group.reached(target)} of {len(group.runs)}",
            **{name: str(group.cost_to(target, measure)) for measure, name in COSTS.items()},
        }
        for target in _targets(groups)
        for group in groups
    ]


def _targets(groups: Sequence[SeedRuns]) -> list[float]:
    """The decades that any run reached, and every job's `stop.error`."""
    summaries = [summary for group in groups for summary in group.runs]
    asked = {summary.job.get("stop", {}).get("error") for summary in summaries} - {None}
    reached = {decade for decade in DECADES if any(s.reached(decade) for s in summaries)}
    return sorted(asked | reached, reverse=True)


def _numbers(group: SeedRuns, targets: Sequence[float]) -> Row:
    spreads = {"error": group.error, "loss": group.loss}
    spreads |= {name: group.cost(measure) for measure, name in COSTS.items()}
    reached = {}
    for target in targets:
        at = f"at error <= {target:g}"
        reached[f"seeds {at}"] = group.reached(target)
        spreads |= {f"{name} {at}": group.cost_to(target, cost) for cost, name in COSTS.items()}
    network = {"solver": group.label, "network": group.runs[0].network, "seeds": len(group.runs)}
    numbers = {f"{k} {part}": v for k, s in spreads.items() for part, v in s._asdict().items()}
    return {**network, "stop reason": group.ends, **reached, **numbers}


def _notes(groups: Sequence[SeedRuns]) -> list[str]:
    summaries = [summary for group in groups for summary in group.runs]
    shapes = sorted({summary.processes for summary in summaries})
    notes = [f"{MODEL}; ranks x threads: {', '.join(shapes)}"]
    if any(summary.run.attributes.get("threads", 1) != 1 for summary in summaries):
        notes.append("CPU time is that of all threads of a rank: set parallel.threads=1 to model")
    if len({summary.network for summary in summaries}) > 1:
        notes.append("the jobs train different networks")
    return notes
