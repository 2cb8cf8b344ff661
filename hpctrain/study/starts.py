"""The runs of a study: each a process or an MPI job of its own, one after the other.

Its run file lies in the study's folder. A finished one there of the very same job on as many ranks
is taken as it is, so that a study that was interrupted goes on.
"""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import BAD_INPUT, HpctrainError
from hpctrain.job.settings import Job, JobError, parse_job
from hpctrain.job.stop import RUNNING, SIGNAL
from hpctrain.parallel.launchers import find_mpirun
from hpctrain.results.summary import StudyError
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import RunFileError, read_run

UNFINISHED = (RUNNING.text, SIGNAL.text)
# Seconds between looks at whether a signal came while a run goes on.
POLL = 0.2


class UnfinishedError(HpctrainError):
    """A run of a study failed, or the study was stopped; `status` is the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class PlannedRun:
    """One run: its job file with all settings that replace the file's, and the job they make.

    Args:
        label, variant: how messages name it, such as "adam" and "seed 0".
        name: of its run file, without an ending.
        launcher: the words that start its ranks; none for one rank alone.
    """

    label: str
    variant: str
    name: str
    file: str
    overrides: tuple[str, ...]
    job: Job
    ranks: int
    launcher: tuple[str, ...] = ()

    def command(self, output: Path) -> list[str]:
        settings = [word for setting in self.overrides for word in ("--set", setting)]
        run = [sys.executable, "-m", "hpctrain", "run", self.file, "-o", str(output), *settings]
        return [*self.launcher, *run]

    def __str__(self) -> str:
        return f"{self.label}, {self.variant}"


def find_launcher_words(ranks: int) -> tuple[str, ...]:
    """The words that start ranks on this machine; none for one alone."""
    if ranks == 1:
        return ()
    found = find_mpirun()
    if found is None:
        raise StudyError(f"--ranks: there is no mpirun beside {sys.executable} or on the path")
    return found, "-n", str(ranks)


def ensure(run: PlannedRun, folder: Path, signals: StopSignals, progress: str) -> Path:
    """The file of this run, which is started if it is not there; progress goes to stderr.

    Raises:
        StudyError: the run ended as one that was asked for wrongly.
        UnfinishedError: the run failed, or a signal came.
    """
    path = _find_finished_file(run, folder)
    if path is not None:
        print(f"{progress} {run}: {path} is there", file=sys.stderr, flush=True)
        return path
    path = _find_free_file(run, folder)
    print(f"{progress} {run}: {path} …", file=sys.stderr, flush=True)
    start(run, path, signals)
    return path


def _list_candidates(run: PlannedRun, folder: Path) -> Iterator[Path]:
    """Where its file may lie: job-seed0.h5, job-seed0-2.h5, …"""
    yield folder / f"{run.name}.h5"
    yield from (folder / f"{run.name}-{k}.h5" for k in itertools.count(2))


def _find_finished_file(run: PlannedRun, folder: Path) -> Path | None:
    there = itertools.takewhile(Path.exists, _list_candidates(run, folder))
    return next((path for path in there if _is_finished(path, run)), None)


def _find_free_file(run: PlannedRun, folder: Path) -> Path:
    """Nothing that exists is written over, be it what a killed run left."""
    return next(
        path
        for path in _list_candidates(run, folder)
        if not path.exists() and not path.with_suffix(".ckpt").exists()
    )


def _is_finished(path: Path, run: PlannedRun) -> bool:
    """Whether this is a complete run of the very same job on as many ranks."""
    try:
        found = read_run(path)
        job = parse_job(found.job, str(path))
    except (RunFileError, JobError):
        return False
    same = (
        _read_settings(job) == _read_settings(run.job)
        and found.attributes.get("ranks") == run.ranks
    )
    return same and found.stop_reason not in UNFINISHED


def _read_settings(job: Job) -> dict[str, Any]:
    """All but where the run file lies."""
    return job.model_dump(exclude={"output": {"path"}})


def start(run: PlannedRun, path: Path, signals: StopSignals) -> None:
    """Run it to its end; what it prints goes into a log beside its file."""
    log = path.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen(run.command(path), stdout=stream, stderr=subprocess.STDOUT)
        status = wait(process, signals)
    if path.exists() and read_run(path).stop_reason not in UNFINISHED:
        return
    if signals.received:
        raise UnfinishedError("stopped by a signal: the same command goes on from here", 75)
    lines = log.read_text().split("\n")
    said = [line.removeprefix("hpctrain: ") for line in lines if line.startswith("hpctrain: ")]
    if status == BAD_INPUT and said:
        raise StudyError(said[-1])
    raise UnfinishedError(f"{run} failed ({status}): see {log}", 1)


def wait(process: subprocess.Popen[bytes], signals: StopSignals) -> int:
    """Its exit status. A signal is handed on once: the run then ends after its iteration."""
    told = False
    while True:
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            if signals.received and not told:
                process.terminate()
                told = True
