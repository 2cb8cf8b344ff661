"""Training from Python: in a script, on the ranks of mpirun, or in a notebook.

What `hpctrain run` and `hpctrain resume` do, with the settings, classes and functions of a program.
On several ranks both functions are collective: all call them, with the same settings.
"""

import shutil
import signal
import tempfile
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

import torch

from hpctrain.errors import InputError
from hpctrain.job.overrides import Overrides
from hpctrain.job.own_code import list_given_classes
from hpctrain.job.settings import Job, make_job, parse_job, read_text, write_toml
from hpctrain.parallel import launch
from hpctrain.parallel.communicator import Communicator
from hpctrain.results.run import Result
from hpctrain.run import train as runner
from hpctrain.run.loop import End
from hpctrain.run.observers.callbacks import Callback
from hpctrain.run.signals import StopSignals
from hpctrain.run.train import Watching
from hpctrain.store.files import check_path
from hpctrain.store.run_file import read_run

# A job's path, its tables, or the job itself.
GivenJob = str | PathLike[str] | Mapping[str, Any] | Job
NAME = "run.h5"


class TemporaryFolder:
    """A folder that is removed with what is in it when this object is gone."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hpctrain-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


Folder = TemporaryFolder | None


def train(
    job: GivenJob,
    *,
    set: Mapping[str, Any] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
) -> Result:
    """Trains as a job says; collective where there are several ranks.

    An interrupt (Ctrl-C, or a notebook's stop button) ends the run after its iteration, with a
    checkpoint: the result then has status 75, and `resume` goes on with it.

    Args:
        job: the path of a job file, a mapping of its tables, or a `Job`. A class may stand for
            "file.py:Class".
        set: settings instead of the job's, by the keys of `--set`, such as {"solver.blocks": 4};
            None leaves one out, for its default.
        callbacks: a function, or several, called on every rank after each iteration, and before the
            first, with the values of the history's columns by name, and θ (n,) as "theta". The run
            stops where one of them returns True, on any rank.
        progress: whether rank 0 shows a bar or lines.

    Returns:
        The run, on every rank. Without `output.path` its file is a temporary one, which is gone
        with the result; `Result.save` keeps it.

    Raises:
        InputError: as `hpctrain run` says in one line.
        RunError: the loss became NaN or infinite, or the run file cannot be written.
    """

    def run(ranks: Communicator, signals: StopSignals) -> Result:
        asked = agree_on_job(job, check_settings(set), ranks)
        folder = _make_folder(asked, ranks)
        output = str(folder.path / NAME) if folder else None
        watching = _watch(callbacks, progress)
        end = runner.run(asked, ranks, output or asked.output.path, signals, watching)
        return _collect(end, list_given_classes(asked), ranks, folder)

    return _run_on_ranks(run)


def resume(
    run: str | PathLike[str] | Result,
    *,
    set: Mapping[str, Any] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
    changed_code: bool = False,
) -> Result:
    """Goes on with a run from its last checkpoint; collective where there are several ranks.

    Args:
        run: its result, or its run file.
        set: settings of `stop.*`, `output.*`, `parallel.threads` and `parallel.transport`; for a
            run file the classes that Python gave the run, such as {"problem.name": Heat}.
        callbacks, progress: as `train` takes them.
        changed_code: goes on also where a Python file that the job names has changed since.

    Raises:
        InputError, RunError: as `train`; also where there is nothing to go on from.
    """
    given_path = run.path if isinstance(run, Result) else run
    path = str(check_path(given_path, "run", "a result, or the path of a run file"))
    folder = cast(Folder, run.folder) if isinstance(run, Result) else None
    given = list_given_classes(run.job) if isinstance(run, Result) else {}

    def go_on(ranks: Communicator, signals: StopSignals) -> Result:
        watching, overrides = _watch(callbacks, progress), {**given, **check_settings(set)}
        end = runner.resume(path, ranks, overrides, signals, changed_code, watching)
        classes = {key: value for key, value in overrides.items() if isinstance(value, type)}
        return _collect(end, classes, ranks, folder)

    return _run_on_ranks(go_on)


def _run_on_ranks(work: Callable[[Communicator, StopSignals], Result]) -> Result:
    """Does the work on all ranks of this program, and leaves the process as it was."""
    with StopSignals(signal.default_int_handler) as signals, _join_ranks() as ranks:
        threads = torch.get_num_threads()
        try:
            return work(ranks, signals)
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _join_ranks() -> Iterator[Communicator]:
    """All ranks; what not all of them raise ends the whole job, as the others would wait."""
    ranks = launch.make_world()
    try:
        yield ranks
    except BaseException as error:
        launch.end_if_alone(ranks, error)
        raise
    finally:
        ranks.free()


def agree_on_job(given: GivenJob, overrides: Overrides, ranks: Communicator) -> Job:
    """Returns the job, checked, of which all ranks have the same; collective.

    Raises:
        InputError: it is no job, or not the same on all ranks.
    """
    make = _choose_reader(given, overrides, ranks)
    with warnings.catch_warnings():
        if not ranks.is_root:
            warnings.simplefilter("ignore")
        job = ranks.run_on_all(make)
    other = ranks.find_different(ranks.run_on_all(lambda: _compute_sum(job)))
    if other is not None:
        raise InputError(f"rank {other} was given another job than rank 0: all need the same")
    return job


def _choose_reader(given: GivenJob, overrides: Overrides, ranks: Communicator) -> Callable[[], Job]:
    """What makes the job on this rank; of a file rank 0 reads the text; collective."""
    match given:
        case Job() if not overrides:
            return lambda: given
        case Job():
            return lambda: make_job(given.model_dump(exclude_unset=True), "job", overrides)
        case Mapping():
            return lambda: make_job(given, "job", overrides)
        case str() | PathLike():
            text = ranks.run_on_root(lambda: read_text(given))
            return lambda: parse_job(text, fspath(given), overrides)
    raise InputError(
        f"job = {given!r} is not allowed: the path of a job file, a mapping of its tables, or a Job"
    )


def _compute_sum(job: Job) -> int:
    try:
        return zlib.crc32(write_toml(job).encode())
    except TypeError as error:  # a value of a table that some class of the user's takes
        raise InputError(f"job: {error}") from error


def check_settings(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Returns the settings that replace a job's, none for None.

    Raises:
        InputError: they are no mapping.
    """
    if not isinstance(given, Mapping | None):
        raise InputError(
            f'set = {given!r} is not allowed: a mapping, such as {{"solver.blocks": 4}}'
        )
    return given or {}


def _watch(callbacks: Callback | Sequence[Callback], progress: bool) -> Watching:
    functions = (callbacks,) if callable(callbacks) else callbacks
    if not isinstance(functions, Sequence) or not all(map(callable, functions)):
        raise InputError(
            f"callbacks = {callbacks!r} is not allowed: a function of one argument, or a list of"
            " such functions"
        )
    return Watching(tuple(functions), progress)


def _make_folder(job: Job, ranks: Communicator) -> Folder:
    """A folder on rank 0 for a run that is to leave no file; None for another; collective.

    Raises:
        InputError: ranks are on several nodes, which do not share such folders.
    """
    if job.output.path is not None:
        return None
    (apart,) = ranks.find_maximum([len(ranks.find_node_ranks()) < ranks.size])
    if apart:
        raise InputError("output.path is missing: on several nodes a run needs a file")
    return TemporaryFolder() if ranks.is_root else None


def _collect(end: End, classes: Mapping[str, type], ranks: Communicator, folder: Folder) -> Result:
    """The result of a run that has just ended, on every rank; collective."""
    path = end.output
    assert path is not None, "training from Python always has a run file"
    run = ranks.run_on_root(lambda: read_run(path))
    return Result(run, parse_job(run.job, str(path), classes), folder=folder)
