"""What the parts of the published studies share: their runs by seeds, cells and tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.published.runs import Planned
from hpctrain.run.signals import StopSignals

NOT_YET = "not run yet"


class Task(Protocol):
    """A run of a study, as `runs.Planned`."""

    @property
    def name(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    def has_ended(self, folder: Path) -> bool: ...
    def advance(self, folder: Path, signals: StopSignals, seconds: float) -> None: ...


class Part(Protocol):
    """A study, a module of this folder.

    Attributes:
        TITLE: of its section.
        SEEDS: how many it takes where none are asked for.
    """

    TITLE: str
    SEEDS: int

    def plan(self, seeds: int) -> Sequence[Task]:
        """Its runs in the order in which they are made."""

    def write(self, folder: Path, seeds: int) -> str:
        """Its section in Markdown, with what there is of its runs."""


def repeat(planned: Planned, seeds: int) -> list[Planned]:
    """A run under each seed."""
    return [
        Planned(planned.job, {**planned.settings, "seed": seed}, planned.seconds, planned.ranks)
        for seed in range(seeds)
    ]


def order_by_seed(rows: Sequence[Sequence[Planned]]) -> list[Planned]:
    """All rows under their first seed, then under their next, as far as they have one."""
    most = max(map(len, rows))
    return [row[k] for k in range(most) for row in rows if k < len(row)]


def describe_spread(values: Sequence[float], digits: str = ".1f") -> str:
    """The mean; of several values their range and number as well."""
    mean = format(sum(values) / len(values), digits)
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):{digits}} … {max(values):{digits}}; {len(values)})"


def make_table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
