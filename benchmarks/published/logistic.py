"""MLVR and ASTROM on logistic regression, by `benchmarks.logistic`'s runs."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.logistic_runs import Kept, Run, Study, Target, study
from hpctrain.run.signals import StopSignals

KEPT = "logistic.jsonl"


@cache
def pose(name: str) -> Study:
    """A set with its minimum, found once."""
    return study(name)


@cache
def open_kept(folder: Path) -> Kept:
    """The runs that are kept."""
    return Kept(folder / KEPT)


@dataclass(frozen=True)
class KeptRun:
    """A run on a set, which is made at once: none takes long."""

    on: str
    solver: str
    seed: int
    target: Target
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.on} | {' '.join(self.solver.split())} | seed {self.seed}"

    def read(self, folder: Path) -> Run | None:
        """What is kept; None where it is not there."""
        return open_kept(folder).find(self.on, self.solver, self.seed, self.target)

    def has_ended(self, folder: Path) -> bool:
        return self.read(folder) is not None

    def advance(self, folder: Path, signals: StopSignals, seconds: float) -> None:
        """Makes the run, whatever the time."""
        open_kept(folder).run(pose(self.on), self.solver, self.seed, self.target)
