"""A resumed run is the run that was never interrupted, whatever the ranks before and after."""

import warnings

import h5py
import numpy as np
import pytest
from trials import assert_same_history

from hpctrain.job.settings import parse_job
from hpctrain.methods.schwarz import block_solvers
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume, run
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

SETTINGS = """
[parallel]
threads = 1
chunks = 8
[output]
checkpoint_every = 2
error_every = 2
iterates_every = 2
[stop]
max_iterations = {iterations}
[solver]
{solver}
"""
EQUATION = """
[problem]
name = "klein-gordon"
points = 128
[network]
kind = "mlp"
depth = 3
width = 5
activation = "tanh"
"""
IMAGES = """
[problem]
name = "classification"
data = "{data}"
[network]
kind = "fcnn"
hidden = [4, 4]
"""
# Every way in which a solver's state is spread over ranks, and one that every rank has whole; of
# all solvers, as a job has them by default: tests/mpi/test_every_solver.py.
SOLVERS = {
    "lbfgs": 'name = "lbfgs"',
    "ssbroyden": 'name = "ssbroyden"',
    "aspqn": 'name = "aspqn"\nblocks = 3\nlocal_steps = 3\nkeep_local_memory = true',
    "aspqn, ssbroyden": 'name = "aspqn"\nblocks = 2\nlocal_steps = 3\nkeep_local_memory = true\n'
    'local_solver = "ssbroyden"\nglobal_solver = "ssbroyden"',
    "mspqn, ssbroyden": 'name = "mspqn"\nblocks = 2\nlocal_steps = 20\nkeep_local_memory = true\n'
    'local_solver = "ssbroyden"',
    "mspqn, trust-region": 'name = "mspqn"\nblocks = 2\nlocal_steps = 3\nkeep_local_memory = true\n'
    'local_solver = "trust-region"',
    "apts-data": 'name = "apts-data"',
    "gauss-newton, qr": 'name = "gauss-newton"\nfactorisation = "qr"',
}
INTERRUPTED, MIDDLE, ITERATIONS = 3, 4, 6


@pytest.fixture(scope="module")
def data(comm, tmp_path_factory):
    """Four by four noisy images of two classes."""

    def write():
        path = tmp_path_factory.mktemp("data") / "bars.h5"
        random = np.random.default_rng(0)
        with h5py.File(path, "w") as file:
            for part, count in (("train", 64), ("test", 32)):
                labels = np.arange(count) % 2
                inputs = random.integers(0, 80, (count, 1, 4, 4), dtype=np.uint8)
                inputs[labels == 1, :, :2] += 100
                file[f"{part}/inputs"], file[f"{part}/labels"] = inputs, labels
        return path

    return comm.run_on_root(write)


@pytest.fixture
def folder(comm, tmp_path_factory):
    """One folder for all ranks."""
    return comm.run_on_root(lambda: tmp_path_factory.mktemp("runs"))


def job_of(solver, data, iterations=ITERATIONS):
    problem = IMAGES.format(data=data) if solver == "apts-data" else EQUATION
    text = problem + SETTINGS.format(solver=SOLVERS[solver], iterations=iterations)
    return parse_job(text, "a test")


def interrupt(job, comm, path):
    """The first part of a run, whose last checkpoint is damaged."""
    run(job, comm, f"{path}.h5")
    part = path.with_suffix(".ckpt") / f"{INTERRUPTED:08d}" / "part-0.h5"
    part.write_bytes(part.read_bytes()[:-1])


def go_on(path, comm, iterations):
    """Goes on, and says which checkpoints were found damaged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resume(str(path), comm, [f"stop.max_iterations={iterations}"])
    return [str(each.message) for each in caught if "damaged" in str(each.message)]


def assert_same_run(one, other):
    found, expected = read_run(f"{one}.h5"), read_run(f"{other}.h5")
    assert_same_history(found.history, expected.history)
    assert np.array_equal(found.iterates.theta, expected.iterates.theta)
    for name in expected.solution or {}:
        assert np.array_equal(found.solution[name], expected.solution[name]), name
    assert found.attributes["resumes"] == 2
    state, whole = (
        CheckpointStore(f"{run}.ckpt", Communicator()).find_latest().load() for run in (one, other)
    )
    assert state.keys() == whole.keys()
    for path, value in whole.items():
        assert np.array_equal(np.asarray(state[path]), np.asarray(value)), path


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_resumed_run_has_the_bits_of_one_that_was_never_interrupted(
    comm, folder, data, monkeypatch, solver
):
    """On one rank, whose last checkpoint is damaged; then on all ranks; then on one again."""
    monkeypatch.setattr(block_solvers, "LEAST_DIVIDED", 1)
    alone, whole, shared = Communicator(), folder / "whole", folder / "shared"
    if comm.is_root:
        run(job_of(solver, data), alone, f"{whole}.h5")
        interrupt(job_of(solver, data, INTERRUPTED), alone, shared)
    comm.barrier()
    named = go_on(f"{shared}.h5", comm, MIDDLE)
    assert len(named) == (1 if comm.is_root else 0)
    comm.barrier()
    if comm.is_root:
        go_on(f"{shared}.h5", alone, ITERATIONS)
    comm.barrier()
    assert_same_run(shared, whole)
    assert len(read_run(f"{whole}.h5").history["loss"]) == 1 + ITERATIONS
