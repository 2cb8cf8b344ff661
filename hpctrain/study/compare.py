"""Compares several jobs for one problem with several seeds, and starts runs that are missing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpctrain.job.settings import Job, load_job
from hpctrain.parallel.launch import find_launched_ranks
from hpctrain.results import style
from hpctrain.results.summary import StudyError, Summary, tell_apart
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import read_run
from hpctrain.study import bands, seeds, starts
from hpctrain.study.seeds import SeedRuns
from hpctrain.study.starts import PlannedRun


@dataclass(frozen=True)
class Study:
    """What is to be compared.

    Args:
        jobs: the job files, all of one problem.
        seeds: each job runs once with each.
        overrides: settings that replace those of every job, as `hpctrain run --set` takes them.
        ranks: the number of ranks of each run.
        folder: where run files and logs lie; by default a folder named after the problem.
    """

    jobs: Sequence[str]
    seeds: Sequence[int]
    overrides: Sequence[str] = ()
    ranks: int = 1
    folder: str | None = None


def compare(study: Study, table_style: str = "text", figure: str | None = None) -> str:
    """Starts the runs that are missing, draws the figure, and returns the tables.

    Progress is reported to stderr.

    Args:
        study: what is to be compared.
        table_style: of the tables; see `results.report`.
        figure: the file to be drawn; None for none.

    Raises:
        InputError: a file is no job, the jobs cannot be compared, something is asked for that does
            not exist, or nothing can be written where it is to be.
        UnfinishedError: a run failed, or a signal came.
    """
    if figure is not None:
        style.check_output(Path(figure))
    planned = _plan(study)
    folder = starts.make_folder(study.folder or _name_default_folder(planned[0].job))
    groups = _run_all(planned, folder)
    if figure is not None:
        bands.draw(groups, Path(figure))
    return seeds.format_comparison(groups, table_style)


def parse_seeds(text: str) -> list[int]:
    """Reads the seeds in a text such as "0,1,2".

    Raises:
        StudyError: it is no such text.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise StudyError(f"--seeds {text}: expected different whole numbers, such as 0,1,2")
    return [int(word) for word in words]


def _name_default_folder(job: Job) -> str:
    name = job.problem.subject.rpartition(":")[2]
    return f"runs/compare-{Path(name).stem.lower()}"


def _plan(study: Study) -> list[PlannedRun]:
    """Lists all runs: every job with the first seed, then with the next one."""
    _check_request(study)
    jobs = [load_job(file, study.overrides) for file in study.jobs]
    for file, job in zip(study.jobs, jobs, strict=True):
        if job.problem != jobs[0].problem:
            raise StudyError(
                f"{file}: its problem ({_describe_problem(job)}) is not that of {study.jobs[0]}"
                f" ({_describe_problem(jobs[0])}): compare jobs of one problem"
            )
    labels = tell_apart([job.solver_name for job in jobs], study.jobs)
    planned, words = list[PlannedRun](), starts.find_launcher_words(study.ranks)
    for seed in study.seeds:
        overrides = (*study.overrides, f"seed={seed}")
        for file, label in zip(study.jobs, labels, strict=True):
            job, name = load_job(file, overrides), f"{Path(file).stem}-seed{seed}"
            planned.append(
                PlannedRun(label, f"seed {seed}", name, file, overrides, job, study.ranks, words)
            )
    return planned


def _check_request(study: Study) -> None:
    """Raises a StudyError for what does not exist, before any run."""
    if find_launched_ranks(os.environ).size > 1:
        raise StudyError("compare starts the ranks itself: run it alone, with --ranks")
    if study.ranks < 1:
        raise StudyError(f"--ranks {study.ranks}: at least 1")
    starts.find_launcher_words(study.ranks)
    if len({Path(file).resolve() for file in study.jobs}) < len(study.jobs):
        raise StudyError(f"a job is given twice: {' '.join(study.jobs)}")
    for key, instead in {"seed": "--seeds", "output.path": "--runs"}.items():
        if any(override.partition("=")[0].strip() == key for override in study.overrides):
            raise StudyError(f"--set {key}: compare sets it, by {instead}")


def _describe_problem(job: Job) -> str:
    """Names a job's problem with its settings, so that two jobs can be compared."""
    return ", ".join(f"{key} {value}" for key, value in job.problem.model_dump().items())


def _run_all(planned: Sequence[PlannedRun], folder: Path) -> list[SeedRuns]:
    """Runs what is missing, and returns the runs by job."""
    finished: dict[str, list[Summary]] = {}
    with StopSignals() as signals:
        for count, run in enumerate(planned, start=1):
            path = starts.ensure(run, folder, signals, f"[{count}/{len(planned)}]")
            finished.setdefault(run.label, []).append(Summary(read_run(path)))
    return [SeedRuns(label, tuple(runs)) for label, runs in finished.items()]
