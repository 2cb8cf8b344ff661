"""A run of several solvers, killed in each of them, goes on with the same bits on other ranks."""

import shutil
import warnings
from pathlib import Path

import pytest

from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import read_run

JOB = Path(__file__).parents[2] / "jobs" / "library" / "kovasznay-stages.toml"
SMALL = [
    "problem.points=100",
    "problem.condition_points=8",
    "network.width=5",
    "network.depth=3",
    "solver.1.stop.max_iterations=4",
    "solver.2.stop.max_iterations=4",
    "stop.max_iterations=12",
    "stop.error=",
    "output.checkpoint_every=2",
    "output.error_every=2",
    "output.iterates_every=1",
    "parallel.threads=1",
    "parallel.chunks=16",
]
# Each within a stage of its own, a step behind a checkpoint.
KILLED = (3, 7, 11)


def kill_after(iteration: int, path: Path, comm: Communicator) -> None:
    """Takes from a run that stopped after an iteration what a killed one has not written."""
    if comm.is_root:
        shutil.rmtree(path.with_suffix(".ckpt") / f"{iteration:08d}")
    comm.barrier()


def go_on(path: Path, comm: Communicator, iterations: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resume(str(path), comm, [f"stop.max_iterations={iterations}"])


@pytest.mark.mpi(min_size=2)
@pytest.mark.filterwarnings("ignore:stage")
def test_a_run_killed_in_each_stage_has_the_bits_of_one_rank(
    comm, folder, run_alone, assert_same_run
):
    expected = run_alone(load_job(JOB, SMALL))
    assert expected.history["stage"].tolist() == [1] * 5 + [2] * 4 + [3] * 4

    shared = folder / "shared.h5"
    run(load_job(JOB, [*SMALL, f"stop.max_iterations={KILLED[0]}"]), comm, str(shared))
    kill_after(KILLED[0], shared, comm)
    if comm.is_root:
        go_on(shared, Communicator(), KILLED[1])
    comm.barrier()
    kill_after(KILLED[1], shared, comm)
    go_on(shared, comm, KILLED[2])
    kill_after(KILLED[2], shared, comm)
    go_on(shared, comm, 12)
    found = read_run(shared)
    assert_same_run(found, expected)
    assert found.stage_reasons == expected.stage_reasons
