"""What the parts of the published studies share: their runs by seeds, and cells."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from benchmarks.published.runs import JobRun
from benchmarks.tasks import Task

NOT_YET = "not run yet"


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


def repeat(run: JobRun, seeds: int) -> list[JobRun]:
    """A run under each seed."""
    return [replace(run, settings={**run.settings, "seed": seed}) for seed in range(seeds)]


def order_by_seed(rows: Sequence[Sequence[JobRun]]) -> list[JobRun]:
    """All rows under their first seed, then under their next, as far as they have one."""
    most = max(map(len, rows))
    return [row[k] for k in range(most) for row in rows if k < len(row)]


def describe_spread(values: Sequence[float], digits: str = ".1f") -> str:
    """The mean; of several values their range and number as well."""
    mean = format(sum(values) / len(values), digits)
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):{digits}} … {max(values):{digits}}; {len(values)})"
