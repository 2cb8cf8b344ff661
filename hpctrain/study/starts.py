"""Starts the runs of a study one after the other, each as a process or MPI job of its own.

Run files lie in the study's folder. If there is a finished one of the same job, with the same code
of the user's, on as many ranks, it is used, so that a study that was interrupted goes on where it
was.
"""

import itertools
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import BAD_INPUT, HpctrainError, InputError
from hpctrain.job.own_code import check_unchanged, list_own_files
from hpctrain.job.settings import Job, parse_job
from hpctrain.job.stop import RUNNING, SIGNAL
from hpctrain.parallel.launchers import find_mpirun
from hpctrain.results.summary import StudyError
from hpctrain.run.signals import StopSignals
from hpctrain.store import writable
from hpctrain.store.files import name_checkpoint_folder
from hpctrain.store.run_file import Run, read_run

UNFINISHED = (RUNNING.text, SIGNAL.text)
# Seconds between looks at whether a signal came while a run goes on.
POLL = 0.2


class UnfinishedError(HpctrainError):
    """A run of a study failed, or the study was stopped. `status` is the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Args:
        label, variant: as messages name it, such as "adam" and "seed 0".
        name: of its run file, without an ending.
        file: its job file.
        overrides: the settings that replace those of the file.
        job: the job that the two make.
        ranks: the number of ranks.
        launcher: the words of the command that starts the ranks; none for a single rank.
    """

    label: str
    variant: str
    name: str
    file: str
    overrides: tuple[str, ...]
    job: Job
    ranks: int
    launcher: tuple[str, ...] = ()

    def make_command(self, output: Path) -> list[str]:
        """The words that begin the run, or go on with it where its run file `output` is there."""
        words = [*self.launcher, sys.executable, "-m", "hpctrain"]
        if output.exists():
            return [*words, "resume", str(output)]
        settings = [word for setting in self.overrides for word in ("--set", setting)]
        return [*words, "run", self.file, "-o", str(output), *settings]

    def is_stored_in(self, found: Run) -> bool:
        """Whether a run file is that of this job; where it was written does not matter.

        Raises:
            JobError: the file's job is none that this version reads.
        """
        return _read_settings(parse_job(found.job, str(found.path))) == _read_settings(self.job)

    def __str__(self) -> str:
        return f"{self.label}, {self.variant}"


def find_launcher_words(ranks: int) -> tuple[str, ...]:
    """Finds the words of the command that starts ranks on this machine; none for a single rank."""
    if ranks == 1:
        return ()
    found = find_mpirun()
    if found is None:
        raise StudyError(f"--ranks: there is no mpirun beside {sys.executable} or on the path")
    return found, "-n", str(ranks)


def make_folder(name: str) -> Path:
    """Makes the folder of a study's run files and logs.

    Raises:
        InputError: nothing can be written there.
    """
    folder = Path(name)
    writable.check_folder(folder, f"--runs {name}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def ensure(run: PlannedRun, folder: Path, signals: StopSignals, progress: str) -> Path:
    """Returns the file of a run, which is started if there is no finished one; reports to stderr.

    Args:
        run: the run.
        folder: the study's folder.
        signals: by which the study is stopped.
        progress: the text that is put before its report, such as "3/9".

    Raises:
        StudyError: the run was refused, since its job asks for something that is not possible.
        UnfinishedError: the run failed, or a signal came.
    """
    path = find_finished_file(run, folder)
    if path is not None:
        print(f"{progress} {run}: {path} is there", file=sys.stderr, flush=True)
        return path
    path = find_free_file(run, folder)
    print(f"{progress} {run}: {path} …", file=sys.stderr, flush=True)
    start(run, path, signals)
    return path


def _list_candidates(run: PlannedRun, folder: Path) -> Iterator[Path]:
    """Yields where the run's file may lie: job-seed0.h5, job-seed0-2.h5, …"""
    yield folder / f"{run.name}.h5"
    yield from (folder / f"{run.name}-{k}.h5" for k in itertools.count(2))


def find_finished_file(run: PlannedRun, folder: Path) -> Path | None:
    """Finds the finished file of this run; None where there is none."""
    there = itertools.takewhile(_is_taken, _list_candidates(run, folder))
    return next((path for path in there if _is_finished(path, run)), None)


def find_free_file(run: PlannedRun, folder: Path) -> Path:
    """Finds a name that is free, so that no file is written over, not even that of a killed run."""
    return next(path for path in _list_candidates(run, folder) if not _is_taken(path))


def _is_taken(path: Path) -> bool:
    """Whether a run has this name, of which the checkpoint may be all that is left."""
    return path.exists() or name_checkpoint_folder(path).exists()


def _is_finished(path: Path, run: PlannedRun) -> bool:
    """Whether a file is that of a complete run of the same job, and code, on as many ranks."""
    try:
        found = read_run(path)
        check_unchanged(list_own_files(run.job), found.own_code, path)
        same = run.is_stored_in(found) and found.attributes.get("ranks") == run.ranks
    except InputError:
        return False
    return same and found.stop_reason not in UNFINISHED


def _read_settings(job: Job) -> dict[str, Any]:
    """Returns the settings of a job, without where its run file lies."""
    return job.model_dump(exclude={"output": {"path"}})


def start(run: PlannedRun, path: Path, signals: StopSignals) -> None:
    """Runs a job to its end. What it prints is written to a log beside its file.

    Raises:
        StudyError: the run was refused.
        UnfinishedError: it failed, or a signal came.
    """
    status = launch(run, path, signals)
    if path.exists() and read_run(path).stop_reason not in UNFINISHED:
        return
    if signals.received:
        raise UnfinishedError("stopped by a signal: the same command goes on from here", 75)
    log = find_log(path)
    lines = log.read_text().split("\n")
    said = [line.removeprefix("hpctrain: ") for line in lines if line.startswith("hpctrain: ")]
    if status == BAD_INPUT and said:
        raise StudyError(said[-1])
    raise UnfinishedError(f"{run} failed ({status}): see {log}", 1)


def find_log(path: Path) -> Path:
    """Where a run whose file is `path` has what it prints."""
    return path.with_suffix(".log")


def launch(run: PlannedRun, path: Path, signals: StopSignals, seconds: float = math.inf) -> int:
    """Begins a run, or goes on with it, and waits for it; its exit status.

    Args:
        run: the run.
        path: of its run file. What the run prints is added to a log beside it.
        signals: by which it is stopped.
        seconds: after which it is stopped.
    """
    with find_log(path).open("a" if path.exists() else "w") as stream:
        command = run.make_command(path)
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        return wait(process, signals, seconds)


def wait(process: subprocess.Popen[Any], signals: StopSignals, seconds: float = math.inf) -> int:
    """Waits for a process, and returns its exit status.

    On a signal, or after so many seconds, the process is told to end, once; a run then ends after
    its iteration.
    """
    deadline, told = time.monotonic() + seconds, False
    while True:
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            if not told and (signals.received or time.monotonic() >= deadline):
                process.terminate()
                told = True
