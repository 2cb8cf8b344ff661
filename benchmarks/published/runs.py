"""Runs of committed jobs that a study keeps, begins and goes on with, a while at a time.

A run file lies in the study's folder under the name of its job and settings. One that has ended is
used; one that was interrupted goes on from its last checkpoint.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.errors import InputError
from hpctrain.job.settings import Job, load_job, parse_job
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import Run, read_run
from hpctrain.study.starts import POLL, UNFINISHED, find_launcher_words

ENDED, STOPPED = 0, 75


@dataclass(frozen=True)
class Planned:
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
        """Of its run file."""
        words = [f"{key.split('.')[-1]}={value}" for key, value in self.settings.items()]
        text = "-".join([self.job.replace("/", "-"), *words])
        return "".join(each if each.isalnum() or each in "-=._" else "_" for each in text)

    @property
    def overrides(self) -> list[str]:
        """The words behind --set."""
        return ["parallel.threads=1", *(f"{key}={each}" for key, each in self.settings.items())]

    @property
    def file(self) -> str:
        """The job file."""
        return f"jobs/{self.job}.toml"

    def read(self, folder: Path) -> Run | None:
        """What there is of the run, ended or not; None where it has not begun.

        Raises:
            InputError: the file is that of another job, or damaged.
        """
        path = self._path(folder)
        if not path.exists():
            return None
        run = read_run(path)
        asked = load_job(self.file, self.overrides)
        if _list_settings(parse_job(run.job, str(path))) != _list_settings(asked):
            raise InputError(f"{path} is of another state of {self.file}: move it away")
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
        log, deadline = self._path(folder).with_suffix(".log"), time.monotonic() + seconds
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("a") as stream:
            command = self.make_command(folder)
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
            status = _wait_until(process, signals, deadline)
        if status not in (ENDED, STOPPED):
            raise InputError(f"{self.name} failed ({status}): see {log}")

    def make_command(self, folder: Path) -> list[str]:
        """The words that begin the run, or go on with it where it has begun."""
        path, python = self._path(folder), [sys.executable, "-m", "hpctrain"]
        words = [*find_launcher_words(self.ranks), *python]
        if path.exists():
            return [*words, "resume", str(path)]
        settings = [word for each in self.overrides for word in ("--set", each)]
        return [*words, "run", self.file, "-o", str(path), *settings]

    def _path(self, folder: Path) -> Path:
        return folder / f"{self.name}.h5"


def _wait_until(process: subprocess.Popen[bytes], signals: StopSignals, deadline: float) -> int:
    """Waits for a process, which is told once to stop, at the deadline or on a signal."""
    told = False
    while True:
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            if not told and (signals.received or time.monotonic() >= deadline):
                process.terminate()
                told = True


def _list_settings(job: Job) -> Mapping[str, Any]:
    return job.model_dump(exclude={"output": {"path"}})
