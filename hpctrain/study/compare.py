"""The same problem under several jobs and seeds: runs what is not there yet, and sums it up.

Each run is a process of its own, or an MPI job of its own, one after the other, so that none takes
time from another. Its run file lies in one folder. A finished one there of the very same job on
as many ranks is taken as it is, so that a study that was interrupted goes on.
"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import HpctrainError
from hpctrain.job import Job, JobError, load_job, parse_job
from hpctrain.parallel.launch import launched_ranks
from hpctrain.reasons import Reason
from hpctrain.signals import StopSignals
from hpctrain.store.run_file import RUNNING, RunFileError, read_run
from hpctrain.study import bands, seeds, style
from hpctrain.study.seeds import SeedRuns
from hpctrain.study.summary import StudyError, Summary

UNFINISHED = (RUNNING, Reason.SIGNAL.text)
BAD_INPUT = 2
# Seconds between looks at whether a signal came while a run goes on.
POLL = 0.2


class UnfinishedError(HpctrainError):
    """A run of the study failed, or the study was stopped; `status` is the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Study:
    """What is to be compared.

    Args:
        jobs: job files of one problem.
        seeds: each job runs once with each.
        overrides: settings that replace those of every job, as `hpctrain run --set`.
        ranks: of each run.
        folder: for run files and logs; by default one named after the problem.
    """

    jobs: Sequence[str]
    seeds: Sequence[int]
    overrides: Sequence[str] = ()
    ranks: int = 1
    folder: str | None = None


@dataclass(frozen=True)
class _Planned:
    """One run: its job file with all settings that replace the file's, and the job they make."""

    label: str
    file: str
    overrides: tuple[str, ...]
    job: Job
    ranks: int

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}-seed{self.job.seed}"

    def command(self, output: Path) -> list[str]:
        settings = [word for setting in self.overrides for word in ("--set", setting)]
        run = [sys.executable, "-m", "hpctrain", "run", self.file, "-o", str(output), *settings]
        return run if self.ranks == 1 else [find_mpirun(), "-n", str(self.ranks), *run]


def compare(study: Study, table_style: str = "text", figure: str | None = None) -> str:
    """Run what is missing, draw the figure, and return the tables; progress goes to stderr.

    Raises:
        StudyError: the jobs cannot be compared, or something is asked for that there is not.
        JobError: a job is not one.
        UnfinishedError: a run failed, or a signal came.
    """
    if figure is not None:
        style.check_suffix(Path(figure))
    planned = _plan(study)
    folder = Path(study.folder or _default_folder(planned[0].job))
    folder.mkdir(parents=True, exist_ok=True)
    groups = _run_all(planned, folder)
    if figure is not None:
        bands.draw(groups, Path(figure))
    return seeds.comparison(groups, table_style)


def parse_seeds(text: str) -> list[int]:
    """The numbers of "0,1,2"."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise StudyError(f"--seeds {text}: expected different whole numbers, such as 0,1,2")
    return [int(word) for word in words]


def find_mpirun() -> str:
    """The mpirun beside this Python, else the one on the path."""
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise StudyError(f"--ranks: there is no mpirun beside {sys.executable} or on the path")
    return found


def _default_folder(job: Job) -> str:
    name = getattr(job.problem, "data", job.problem.name).rpartition(":")[2]
    return f"runs/compare-{Path(name).stem.lower()}"


def _plan(study: Study) -> list[_Planned]:
    """All runs, every job with one seed before the next seed."""
    _check_request(study)
    jobs = [load_job(file, study.overrides) for file in study.jobs]
    for file, job in zip(study.jobs, jobs, strict=True):
        if job.problem != jobs[0].problem:
            raise StudyError(
                f"{file}: its problem ({_problem(job)}) is not that of {study.jobs[0]}"
                f" ({_problem(jobs[0])}): compare jobs of one problem"
            )
    planned = []
    for seed in study.seeds:
        overrides = (*study.overrides, f"seed={seed}")
        for file, label in zip(study.jobs, _labels(study.jobs, jobs), strict=True):
            job = load_job(file, overrides)
            planned.append(_Planned(label, file, overrides, job, study.ranks))
    return planned


def _check_request(study: Study) -> None:
    if launched_ranks(os.environ).size > 1:
        raise StudyError("compare starts the ranks itself: run it alone, with --ranks")
    if study.ranks < 1:
        raise StudyError(f"--ranks {study.ranks}: at least 1")
    if study.ranks > 1:
        find_mpirun()
    if len({Path(file).resolve() for file in study.jobs}) < len(study.jobs):
        raise StudyError(f"a job is given twice: {' '.join(study.jobs)}")
    for key, instead in {"seed": "--seeds", "output.path": "--runs"}.items():
        if any(override.partition("=")[0].strip() == key for override in study.overrides):
            raise StudyError(f"--set {key}: compare sets it, by {instead}")


def _problem(job: Job) -> str:
    return ", ".join(f"{key} {value}" for key, value in job.problem.model_dump().items())


def _labels(files: Sequence[str], jobs: Sequence[Job]) -> list[str]:
    """The solvers' names, with the files' where a solver comes twice."""
    names = [job.solver.name for job in jobs]
    stems = [Path(file).stem for file in files]
    return [
        name if names.count(name) == 1 else f"{name} ({stem if stems.count(stem) == 1 else file})"
        for name, stem, file in zip(names, stems, files, strict=True)
    ]


def _run_all(planned: Sequence[_Planned], folder: Path) -> list[SeedRuns]:
    finished: dict[str, list[Summary]] = {}
    with StopSignals() as signals:
        for count, run in enumerate(planned, start=1):
            progress = f"[{count}/{len(planned)}] {run.label}, seed {run.job.seed}"
            path = _finished_file(run, folder)
            if path is not None:
                print(f"{progress}: {path} is there", file=sys.stderr, flush=True)
            else:
                path = _free_file(run, folder)
                print(f"{progress}: {path} …", file=sys.stderr, flush=True)
                _start(run, path, signals)
            finished.setdefault(run.label, []).append(Summary(read_run(path)))
    return [SeedRuns(label, tuple(runs)) for label, runs in finished.items()]


def _candidates(run: _Planned, folder: Path) -> Iterator[Path]:
    """Where its file may lie: job-seed0.h5, job-seed0-2.h5, …"""
    yield folder / f"{run.name}.h5"
    yield from (folder / f"{run.name}-{k}.h5" for k in itertools.count(2))


def _finished_file(run: _Planned, folder: Path) -> Path | None:
    there = itertools.takewhile(Path.exists, _candidates(run, folder))
    return next((path for path in there if _is_finished(path, run)), None)


def _free_file(run: _Planned, folder: Path) -> Path:
    """Nothing that exists is written over, be it what a killed run left."""
    return next(
        path
        for path in _candidates(run, folder)
        if not path.exists() and not path.with_suffix(".ckpt").exists()
    )


def _is_finished(path: Path, run: _Planned) -> bool:
    """Whether this is a complete run of the very same job on as many ranks."""
    try:
        found = read_run(path)
        job = parse_job(found.job, str(path))
    except (RunFileError, JobError):
        return False
    same = _settings(job) == _settings(run.job) and found.attributes.get("ranks") == run.ranks
    return same and found.stop_reason not in UNFINISHED


def _settings(job: Job) -> dict[str, Any]:
    """All but where the run file lies."""
    return job.model_dump(exclude={"output": {"path"}})


def _start(run: _Planned, path: Path, signals: StopSignals) -> None:
    """Run it to its end; what it prints goes into a log beside its file."""
    log = path.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen(run.command(path), stdout=stream, stderr=subprocess.STDOUT)
        status = _wait(process, signals)
    if path.exists() and read_run(path).stop_reason not in UNFINISHED:
        return
    if signals.received:
        raise UnfinishedError("stopped by a signal: the same command goes on from here", 75)
    lines = log.read_text().split("\n")
    said = [line.removeprefix("hpctrain: ") for line in lines if line.startswith("hpctrain: ")]
    if status == BAD_INPUT and said:
        raise StudyError(said[-1])
    raise UnfinishedError(f"{run.label}, seed {run.job.seed} failed ({status}): see {log}", 1)


def _wait(process: subprocess.Popen[bytes], signals: StopSignals) -> int:
    """Its exit status. A signal is handed on once: the run then ends after its iteration."""
    told = False
    while True:
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            if signals.received and not told:
                process.terminate()
                told = True
