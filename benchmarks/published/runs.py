"""Runs of committed jobs that a study keeps, begins and goes on with, a while at a time.

A run file lies in the study's folder under the name of its job and settings. One that has ended is
used; one that was interrupted goes on from its last checkpoint.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.runs import plan_run, write_value
from hpctrain.errors import InputError
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import Run, read_run
from hpctrain.study.starts import UNFINISHED, PlannedRun, find_log, launch

ENDED, STOPPED = 0, 75

# Characters of a name: file systems take 255 with an ending.
LONGEST = 235


@dataclass(frozen=True)
class JobRun:
    """A run of a committed job, with settings of its own.

    Attributes:
        job: a name in jobs/, without its ending.
        settings: of the job, by their keys.
        seconds: how long it takes on one quiet core, roughly.
        ranks: on which it runs, one thread each.
    """

    job: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    ranks: int = 1

    @property
    def name(self) -> str:
        """Of its run file; the middle of a long one is told by its digest."""
        values = [(key.split(".")[-1], write_value(its)) for key, its in self.settings.items()]
        words = [f"{key}={value}" for key, value in values]
        text = "-".join([self.job.replace("/", "-"), *words])
        plain = text.replace('"', "")
        name = "".join(each if each.isalnum() or each in "-=._" else "_" for each in plain)
        if len(name) <= LONGEST:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        return f"{name[: LONGEST - 40]}-{digest}-{name[-20:]}"

    @cached_property
    def planned(self) -> PlannedRun:
        """What is started."""
        return plan_run(self.name, self.job, self.settings, self.ranks)

    def find_file(self, folder: Path) -> Path:
        """Where its run file lies, or will lie."""
        return folder / f"{self.name}.h5"

    def read(self, folder: Path) -> Run | None:
        """What there is of the run, ended or not; None where it has not begun.

        Raises:
            InputError: the file is that of another job, or damaged.
        """
        path = self.find_file(folder)
        if not path.exists():
            return None
        run = read_run(path)
        if not self.planned.is_stored_in(run):
            raise InputError(f"{path} is of another state of {self.planned.file}: move it away")
        return run

    def has_ended(self, folder: Path) -> bool:
        """Whether nothing is left to run."""
        run = self.read(folder)
        return run is not None and run.stop_reason not in UNFINISHED

    def advance(self, folder: Path, signals: StopSignals, seconds: float) -> None:
        """Begins the run, or goes on with it, to its end or for so many seconds.

        Raises:
            InputError: it failed; its log says why.
        """
        path = self.find_file(folder)
        folder.mkdir(parents=True, exist_ok=True)
        status = launch(self.planned, path, signals, seconds)
        if status not in (ENDED, STOPPED):
            raise InputError(f"{self.name} failed ({status}): see {find_log(path)}")


@dataclass(frozen=True)
class Named(JobRun):
    """A run with a short name for its files: with all its settings it would be too long."""

    label: str = ""

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "-", self.label)
