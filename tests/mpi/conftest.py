"""What tests on several ranks share: `mpirun -n P python -m pytest tests/mpi --with-mpi`."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from classifiers import write_mnist
from trials import TIMES

from hpctrain.job.settings import Job
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.launch import SECONDS_TO_FORWARD, make_world
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import Run, read_run

COMMUNICATOR = make_world()
NEEDS_FLAG = "need --with-mpi option to run"


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Ends the whole job when a test fails on one rank: the others may wait for it for ever."""
    if report.failed and COMMUNICATOR.size > 1:
        from mpi4py import MPI

        sys.stderr.write(
            f"\nrank {COMMUNICATOR.rank} of {COMMUNICATOR.size}: {report.nodeid} failed in"
            f" {report.when}\n{report.longreprtext}\n"
        )
        sys.stderr.flush()
        time.sleep(SECONDS_TO_FORWARD)
        MPI.COMM_WORLD.Abort(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs these tests without --with-mpi too, on one rank.

    pytest-mpi takes the name of this folder for its mark `mpi`, and would skip all of them.
    """
    for item in items:
        if item.get_closest_marker("mpi") is None:
            item.own_markers[:] = [
                mark for mark in item.own_markers if mark.kwargs.get("reason") != NEEDS_FLAG
            ]


@pytest.fixture(scope="session")
def comm() -> Communicator:
    """All ranks of the test run."""
    return COMMUNICATOR


@pytest.fixture
def folder(comm: Communicator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all ranks, with a few images of digits in its folder `digits`."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("runs")
        write_mnist(folder / "digits", train=67, test=13)
        return folder

    return comm.run_on_root(make)


@pytest.fixture
def run_alone(comm: Communicator, folder: Path) -> Callable[[Job], Run]:
    """The run of a job on rank 0 alone, whose file is `alone.h5` in the folder; on all ranks."""

    def train(job: Job) -> Run:
        path = folder / "alone.h5"
        comm.run_on_root(lambda: run(job, Communicator(), str(path)) and None)
        return read_run(path)

    return train


@pytest.fixture
def run_in_parts(comm: Communicator, folder: Path) -> Callable[[Job, int, int], Run]:
    """The run of a job on all ranks that goes on to some iteration on rank 0 alone, and from there
    to another one on all ranks: run_in_parts(job, alone, last)."""

    def train(job: Job, alone: int, last: int) -> Run:
        path = str(folder / "parts.h5")
        run(job, comm, path)
        if comm.is_root:
            resume(path, Communicator(), [f"stop.max_iterations={alone}"])
        comm.barrier()
        resume(path, comm, [f"stop.max_iterations={last}"])
        return read_run(path)

    return train


@pytest.fixture
def assert_everywhere(comm: Communicator) -> Callable[[bool, str], None]:
    """Asserts a condition on all ranks: assert_everywhere(condition, "what should hold")."""

    def check(condition: bool, claim: str) -> None:
        holds = comm.allgather(bool(condition))
        failed = [rank for rank, held in enumerate(holds) if not held]
        assert not failed, f"{claim}: fails on ranks {failed} of {comm.size}"

    return check


@pytest.fixture
def assert_same_run(assert_everywhere: Callable[[bool, str], None]) -> Callable[[Run, Run], None]:
    """Asserts that a run has the history and the iterates of one rank, on all ranks."""

    def check(found: Run, expected: Run) -> None:
        same = found.history.keys() == expected.history.keys() and all(
            np.array_equal(found.history[name], expected.history[name], equal_nan=True)
            for name in expected.history.keys() - set(TIMES)
        )
        assert_everywhere(same, "the history equals that of one rank")
        thetas = found.iterates.theta, expected.iterates.theta
        assert_everywhere(np.array_equal(*thetas), "the iterates equal those of one rank")

    return check
