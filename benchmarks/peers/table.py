"""The table of seconds to given errors, in Markdown; what hpctrain loses comes first."""

import math
import platform
import statistics
from collections.abc import Sequence

from benchmarks.peers.cases import TARGETS
from benchmarks.peers.programs import PROGRAMS
from benchmarks.peers.runs import Plan
from benchmarks.tables import write_markdown

OWN = "hpctrain"


def find_seconds(result: dict | None, target: float) -> float:
    """The seconds of training after which the error was first at or below a target, else ∞."""
    if result is None:
        return math.nan
    pairs = zip(result["seconds"], result["errors"], strict=True)
    return next((seconds for seconds, error in pairs if error <= target), math.inf)


def write_table(plan: Plan) -> str:
    """Writes the seconds, the last errors, and what was run on what."""
    rows = [_Row(plan, problem, target) for problem in plan.problems for target in TARGETS]
    rows.sort(key=lambda row: row.loss_of_own, reverse=True)
    times = write_markdown(
        ["problem", "error", *plan.programs],
        [[row.problem, f"{row.target:g}", *row.cells] for row in rows],
    )
    ends = write_markdown(
        ["problem", *plan.programs],
        [
            [problem, *(_describe_end(plan, name, problem) for name in plan.programs)]
            for problem in plan.problems
        ],
    )
    runs = f"{len(plan.seeds)} seeds, {plan.threads} threads, {plan.seconds:g} s of training each"
    return "\n\n".join(
        [
            f"Seconds of training to a relative L2 error, the largest over the fields: medians,"
            f" {runs} ({platform.machine()}, {platform.system()}). Rows in which hpctrain is not"
            " the fastest come first. In brackets: how many seeds came there, where not all did.",
            times,
            "Lowest errors (median), and iterations:",
            ends,
            "\n".join(_describe_programs(plan)),
        ]
    )


class _Row:
    """The seconds of all programs to one error of one problem."""

    def __init__(self, plan: Plan, problem: str, target: float) -> None:
        self.problem, self.target = problem, target
        self._found = {
            name: [find_seconds(plan.read(name, problem, seed), target) for seed in plan.seeds]
            for name in plan.programs
        }

    @property
    def medians(self) -> dict[str, float]:
        """By program; NaN where a run is missing."""
        return {
            name: math.nan if any(map(math.isnan, each)) else statistics.median(each)
            for name, each in self._found.items()
        }

    @property
    def loss_of_own(self) -> float:
        """The seconds of hpctrain's fastest method over those of the fastest other program."""
        own = [s for name, s in self.medians.items() if name.startswith(OWN) and s == s]
        others = [s for name, s in self.medians.items() if not name.startswith(OWN) and s == s]
        fastest, other = min(own, default=math.inf), min(others, default=math.inf)
        if math.isinf(other):
            return 1.0 if math.isinf(fastest) else 0.0
        return math.inf if math.isinf(fastest) else fastest / other

    @property
    def cells(self) -> list[str]:
        """The seconds in words, the fewest bold."""
        fewest = min((s for s in self.medians.values() if math.isfinite(s)), default=math.nan)
        return [self._describe(name, fewest) for name in self._found]

    def _describe(self, name: str, fewest: float) -> str:
        median, seconds = self.medians[name], self._found[name]
        if math.isnan(median):
            return "not run"
        reached = sum(map(math.isfinite, seconds))
        text = f"{median:.3g}" if math.isfinite(median) else "not reached"
        text = f"**{text}**" if median == fewest else text
        return text if reached in (0, len(seconds)) else f"{text} ({reached}/{len(seconds)})"


def _describe_end(plan: Plan, name: str, problem: str) -> str:
    results = [plan.read(name, problem, seed) for seed in plan.seeds]
    known = [each for each in results if each is not None and each["errors"]]
    if not known:
        return "not run"
    lowest = statistics.median(min(each["errors"]) for each in known)
    iterations = statistics.median(each["iterations"][-1] for each in known)
    return f"{lowest:.2g}, {iterations:.0f}"


def _describe_programs(plan: Plan) -> Sequence[str]:
    """A line for each program: its note, and the versions that ran."""
    lines = []
    for name in plan.programs:
        results = (plan.read(name, p, seed) for p in plan.problems for seed in plan.seeds)
        versions = next((each["versions"] for each in results if each), {})
        told = [PROGRAMS[name].note, ", ".join(f"{k} {v}" for k, v in versions.items())]
        lines.append(f"- {name}: {'; '.join(filter(None, told)) or 'not run'}")
    return lines
