"""Runs of real jobs on several ranks against the same jobs on one rank and other thread counts."""

import numpy as np
import pytest

from hpctrain.job.settings import parse_job
from hpctrain.methods.schwarz import block_solvers
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import run
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

JOB = """
[problem]
name = "burgers"
points = 300

[network]
kind = "{kind}"
depth = 5
width = 8
activation = "{activation}"

[solver]
{solver}

[parallel]
chunks = 8

[output]
checkpoint_every = 2
error_every = 1
iterates_every = 1

[stop]
max_iterations = {iterations}
"""
# Settings beside the default ones, with which tests/mpi/test_every_solver.py tries every solver.
SOLVERS = {
    "lbfgs": ('name = "lbfgs"', 5),
    "ssbroyden": ('name = "ssbroyden"', 5),
    "aspqn": ('name = "aspqn"\nblocks = 5\nlocal_steps = 4', 3),
    "aspqn, fewer blocks than ranks": ('name = "aspqn"\nblocks = 2\nlocal_steps = 4', 3),
    "aspqn, memory kept": (
        'name = "aspqn"\nblocks = 3\nlocal_steps = 3\nkeep_local_memory = true',
        3,
    ),
    "aspqn, overlap, coarse, block-wise": (
        'name = "aspqn"\nblocks = 3\noverlap = 1\ncoarse_steps = 2\nlocal_steps = 3\n'
        'synchronisation = "block-wise"',
        3,
    ),
    "aspqn, ssbroyden, subspace": (
        'name = "aspqn"\nblocks = 3\noverlap = 1\nlocal_steps = 3\nsynchronisation = "subspace"\n'
        'local_solver = "ssbroyden"\nkeep_local_memory = true\n'
        'global_solver = "ssbroyden"\nglobal_steps = 2',
        3,
    ),
    "aspqn, ssbroyden, fewer blocks than ranks": (
        'name = "aspqn"\nblocks = 2\nlocal_steps = 3\n'
        'local_solver = "ssbroyden"\nkeep_local_memory = true',
        3,
    ),
    "mspqn, ssbroyden, overlap, coarse": (
        'name = "mspqn"\nblocks = 2\noverlap = 1\ncoarse_steps = 2\nlocal_steps = 3\n'
        'local_solver = "ssbroyden"\nkeep_local_memory = true',
        3,
    ),
    "aspqn, rows of blocks divided": (
        'name = "aspqn"\nblocks = 2\nlocal_steps = 3\n'
        'local_solver = "ssbroyden"\nkeep_local_memory = true',
        3,
    ),
    "mspqn, rows of blocks divided": (
        'name = "mspqn"\nblocks = 3\nlocal_steps = 8\n'
        'local_solver = "ssbroyden"\nkeep_local_memory = true',
        4,
    ),
    "aspqn, local trust region kept": (
        'name = "aspqn"\nblocks = 3\nlocal_steps = 4\nlocal_solver = "trust-region"\n'
        "keep_local_memory = true",
        3,
    ),
    "mspqn": ('name = "mspqn"\nblocks = 3\nlocal_steps = 4\nkeep_local_memory = true', 3),
    "trust-region": ('name = "trust-region"\nmemory = 5', 6),
    "trust-region, order 1": ('name = "trust-region"\nmodel = "linear"', 6),
    "gauss-newton": ('name = "gauss-newton"\nform = "primal"', 3),
    "gauss-newton, dual": ('name = "gauss-newton"\nform = "dual"', 3),
    "gauss-newton, sketched": ('name = "gauss-newton"\nsketch = 100', 3),
    "newton-krylov-schwarz": ('name = "newton-krylov-schwarz"\nblocks = 3\nsketch = 60', 3),
}
NETWORKS = {
    "plain": ("mlp", "tanh"),
    "residual": ("residual", "adaptive-tanh"),
    "gated": ("modified", "tanh"),  # its jets are evaluated in torch
}
# A solver does not know of which network its loss is: one kind is enough for most.
CASES = [
    *((solver, "residual") for solver in SOLVERS),
    ("lbfgs", "plain"),
    *((solver, "gated") for solver in ("ssbroyden", "gauss-newton", "newton-krylov-schwarz")),
]


def job_of(solver, network, threads=1, **changes):
    options, iterations = SOLVERS[solver]
    kind, activation = NETWORKS[network]
    text = JOB.format(kind=kind, activation=activation, solver=options, iterations=iterations)
    overrides = [f"parallel.threads={threads}", *(f"{k}={v}" for k, v in changes.items())]
    return parse_job(text, "a test", overrides)


@pytest.fixture
def folder(comm, tmp_path_factory):
    """One folder for all ranks."""
    return comm.run_on_root(lambda: tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("solver, network", CASES)
def test_a_job_has_the_same_bits_on_any_number_of_ranks_and_threads(
    comm, folder, run_alone, assert_same_run, monkeypatch, solver, network
):
    """Those of its history, its solution and its last checkpoint."""
    threads = 1 + (comm.size == 1)
    if "divided" in solver:
        monkeypatch.setattr(block_solvers, "LEAST_DIVIDED", 1)
    run(job_of(solver, network, threads), comm, str(folder / "parallel.h5"))
    found, expected = read_run(folder / "parallel.h5"), run_alone(job_of(solver, network))
    assert_same_run(found, expected)
    assert len(found.history["loss"]) > 2
    assert np.array_equal(found.solution["prediction"], expected.solution["prediction"])
    checkpoint, alone = (
        CheckpointStore(path.with_suffix(".ckpt"), Communicator()).find_latest()
        for path in (folder / "parallel.h5", folder / "alone.h5")
    )
    state, other = checkpoint.load(), alone.load()
    assert state.keys() == other.keys()
    if "divided" in solver:
        most = max(len(leaf.pieces) for path, leaf in checkpoint.leaves.items() if "panels" in path)
        # Of two additive blocks, three ranks and more share one.
        assert most == comm.size if solver.startswith("mspqn") else (most > 1) == (comm.size > 2)
    for path, value in other.items():
        assert np.array_equal(np.asarray(state[path]), np.asarray(value)), path


def test_a_run_says_why_it_ended(comm, folder):
    path = folder / "run.h5"
    job = job_of("ssbroyden", "plain", **{"stop.error": 0.9})
    outcome = run(job, comm, str(path))
    assert (outcome.reason.key, outcome.status) == ("error", 0)
    assert read_run(path).stop_reason == "stop.error reached"


def test_a_time_limit_ends_the_run_with_a_checkpoint_and_status_75(comm, folder):
    job = job_of("lbfgs", "plain", **{"stop.max_seconds": 1e-9})
    outcome = run(job, comm, str(folder / "run.h5"))
    assert (outcome.reason.key, outcome.status) == ("max_seconds", 75)
    assert CheckpointStore(folder / "run.ckpt", Communicator()).find_latest() is not None


def test_an_output_that_exists_is_never_written_over(comm, folder):
    settings = {"output.path": f'"{folder}/run.h5"', "stop.max_iterations": 1}
    job = job_of("lbfgs", "plain", **settings)
    outputs = [run(job, comm).output.name for _ in range(3)]
    assert outputs == ["run.h5", "run-2.h5", "run-3.h5"]
