"""The runs of one job with several seeds, taken together: medians and ranges, in tables."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hpctrain.job.stop import NON_FINITE
from hpctrain.results import report as tables
from hpctrain.results.costs import COSTS
from hpctrain.results.measures import Measure
from hpctrain.results.report import Row
from hpctrain.results.summary import Summary

EPOCHS = (1, 2, 5, 10, 20, 30, 50, 100)
MODEL = (
    "parallel s: in each phase the CPU time of the slowest rank, plus communication as measured on"
    " the rank that waits least; a model, not a measurement"
)


class Spread(NamedTuple):
    """The median and the range of the values of several seeds; NaN if one of them is unknown."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Computes the median and the range of some values."""
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
    def measure(self) -> Measure:
        """The measure by which the runs are judged."""
        return self.runs[0].measure

    @property
    def measured(self) -> Spread:
        """The measure at the end; the worst possible one where the loss became infinite."""
        column, worst = self.measure.column, self.measure.worst
        return Spread.of(_find_at_end(summary, column, worst) for summary in self.runs)

    @property
    def loss(self) -> Spread:
        """The last losses."""
        return Spread.of(_find_at_end(summary, "loss", math.inf) for summary in self.runs)

    def find_at_epoch(self, epoch: float) -> Spread:
        """Returns the measure as last known after so many epochs; NaN without so many."""
        return Spread.of(_find_at_epoch(summary, epoch) for summary in self.runs)

    def cost(self, measure: str) -> Spread:
        """Returns what the whole runs cost, by a measure of cost such as seconds."""
        return Spread.of(summary.find_final(measure) for summary in self.runs)

    def count_reached(self, target: float) -> int:
        """Counts the seeds that reached a target of the measure."""
        return sum(summary.find_reached(target) is not None for summary in self.runs)

    def find_cost_to(self, target: float, measure: str) -> Spread:
        """Returns what it cost to reach a target; infinite for a seed that did not reach it."""
        found = (summary.find_reached(target) for summary in self.runs)
        return Spread.of(math.inf if first is None else getattr(first, measure) for first in found)

    @property
    def ends(self) -> str:
        """Why the runs ended, and how many of them for each reason."""
        reasons = Counter(summary.run.stop_reason for summary in self.runs)
        if len(reasons) == 1:
            return next(iter(reasons))
        return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def _find_at_end(summary: Summary, name: str, worst: float) -> float:
    diverged = summary.run.stop_reason == NON_FINITE.text
    return worst if diverged else summary.find_final(name)


def _find_at_epoch(summary: Summary, epoch: float) -> float:
    epochs, values = map(summary.read_column, ("epoch", summary.measure.column))
    if not (epochs >= epoch - 1e-9).any():
        return math.nan
    known = values[(epochs <= epoch + 1e-9) & np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


def format_comparison(groups: Sequence[SeedRuns], style: str) -> str:
    """Writes tables of several jobs, with a row for each: what they reached, and what it cost.

    A seed that did not reach a target counts as infinitely expensive. One whose loss became
    infinite counts as having the worst error or accuracy. As CSV there is one row for each job,
    with all numbers as columns.
    """
    if style == "csv":
        return tables.format_csv([_list_numbers(group, _list_targets(groups)) for group in groups])
    measure = groups[0].measure
    title = f"At the end ({measure.name} of the final parameters): median [range] over seeds"
    parts = [tables.format_table(title, make_end_rows(groups), style)]
    titles = {
        f"{measure.name.capitalize()} after epochs": make_epoch_rows(groups),
        f"To the first record {measure.reaching}": make_target_rows(groups),
    }
    parts += [tables.format_table(title, rows, style) for title, rows in titles.items() if rows]
    return "\n\n".join([*parts, "\n".join(_write_notes(groups))]) + "\n"


def make_end_rows(groups: Sequence[SeedRuns]) -> list[Row]:
    """Makes a row for each job: where its runs ended, and at what cost."""
    networks = len({summary.network for group in groups for summary in group.runs}) > 1
    return [
        {
            "solver": group.label,
            **({"network": group.runs[0].network} if networks else {}),
            "seeds": len(group.runs),
            group.measure.name: str(group.measured),
            "loss": str(group.loss),
            **{name: str(group.cost(measure)) for measure, name in _list_costs(groups).items()},
            "stop reason": group.ends,
        }
        for group in groups
    ]


def make_epoch_rows(groups: Sequence[SeedRuns]) -> list[Row]:
    """Makes a row for each job: the measure after several numbers of epochs."""
    known = [(group, {epoch: group.find_at_epoch(epoch) for epoch in EPOCHS}) for group in groups]
    shown = [epoch for epoch in EPOCHS if any(not math.isnan(at[epoch].median) for _, at in known)]
    if not shown:
        return []
    return [
        {"solver": group.label, **{f"epoch {epoch}": str(at[epoch]) for epoch in shown}}
        for group, at in known
    ]


def make_target_rows(groups: Sequence[SeedRuns]) -> list[Row]:
    """Makes a row for each target that a run reached, and each job."""
    return [
        {
            group.measure.name: f"{target:g}",
            "solver": group.label,
            "reached": f"{group.count_reached(target)} of {len(group.runs)}",
            **{
                name: str(group.find_cost_to(target, cost))
                for cost, name in _list_costs(groups).items()
            },
        }
        for target in _list_targets(groups)
        for group in groups
    ]


def _list_targets(groups: Sequence[SeedRuns]) -> list[float]:
    """Lists the marks of the measure that a run reached, and where every job was to stop."""
    summaries = [summary for group in groups for summary in group.runs]
    measure = groups[0].measure
    asked = {summary.asked for summary in summaries if summary.asked is not None}
    reached = {mark for mark in measure.marks if any(s.find_reached(mark) for s in summaries)}
    return sorted(asked | reached, reverse=not measure.rises)


def _list_costs(groups: Sequence[SeedRuns]) -> dict[str, str]:
    """Lists the costs that tables show; epochs only where there are any."""
    has_epochs = all("epoch" in summary.run.history for group in groups for summary in group.runs)
    heads = {name: cost.head for name, cost in COSTS.items()}
    epoch = {"epoch": heads.pop("epoch")}
    return epoch | heads if has_epochs else heads


def _list_numbers(group: SeedRuns, targets: Sequence[float]) -> Row:
    measure, costs = group.measure, _list_costs([group])
    spreads = {measure.name: group.measured, "loss": group.loss}
    spreads |= {name: group.cost(cost) for cost, name in costs.items()}
    reached = {}
    for target in targets:
        at = f"at {measure.name} {measure.sign} {target:g}"
        reached[f"seeds {at}"] = group.count_reached(target)
        spreads |= {
            f"{name} {at}": group.find_cost_to(target, cost) for cost, name in costs.items()
        }
    network = {"solver": group.label, "network": group.runs[0].network, "seeds": len(group.runs)}
    numbers = {f"{k} {part}": v for k, s in spreads.items() for part, v in s._asdict().items()}
    return {**network, "stop reason": group.ends, **reached, **numbers}


def _write_notes(groups: Sequence[SeedRuns]) -> list[str]:
    summaries = [summary for group in groups for summary in group.runs]
    shapes = sorted({summary.processes for summary in summaries})
    notes = [f"{MODEL}; ranks x threads: {', '.join(shapes)}"]
    if any(summary.run.attributes.get("threads", 1) != 1 for summary in summaries):
        notes.append("CPU time is that of all threads of a rank: set parallel.threads=1 to model")
    if any(np.isnan(summary.parallel_seconds[-1:]).any() for summary in summaries):
        notes.append("parallel s ends at the last record whose error was measured, before the end")
    if len({summary.network for summary in summaries}) > 1:
        notes.append("the jobs train different networks")
    return notes
