"""A resumed run is the run that was never interrupted, whatever the ranks before and after."""

import itertools
import shutil
import warnings

import h5py
import numpy as np
import pytest

from hpctrain import solvers
from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run import assemble as build
from hpctrain.run.train import resume, run
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

SETTINGS = """
[parallel]
threads = 1
chunks = 16
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
RESIDUAL = (
    IMAGES.partition("[network]")[0]
    + """
[network]
kind = "dense-resnet"
width = 4
blocks = 4
"""
)
LOGISTIC = """
[problem]
name = "logistic"
data = "{rows}"
"""
# What a solver needs to have more to remember, and the methods of one name by other settings.
SOLVERS = {name: f'name = "{name}"' for name in solvers.SOLVERS} | {
    "gauss-newton": 'name = "gauss-newton"\ndamping = 1e4\nacceleration = 0',
    "rmtr": 'name = "rmtr"\nlevels = 2\nbatch_size = 32',
    "sgd": 'name = "sgd"\nlearning_rate = 1e-9',
    "aspqn": 'name = "aspqn"\nblocks = 3\nlocal_steps = 3\nkeep_local_memory = true',
    "aspqn, ssbroyden": 'name = "aspqn"\nblocks = 2\nlocal_steps = 3\nkeep_local_memory = true\n'
    'local_solver = "ssbroyden"\nglobal_solver = "ssbroyden"',
    "mspqn": 'name = "mspqn"\nblocks = 3\nlocal_steps = 3\nkeep_local_memory = true',
    "mspqn, trust-region": 'name = "mspqn"\nblocks = 2\nlocal_steps = 3\nkeep_local_memory = true\n'
    'local_solver = "trust-region"',
}
# Of the methods that have blocks, by default more of them than these networks have layers.
BLOCKS = "blocks = 2"
# On one rank, whose last checkpoint is damaged, so that the one before is used; then on all ranks;
# then on one again.
INTERRUPTED, MIDDLE, ITERATIONS = 3, 4, 6
# What is spread over three ranks in another way than over two or four.
ON_UNEVEN_RANKS = ("ssbroyden", "gauss-newton", "aspqn", "mspqn", "apts-data")
TIMES = ("seconds", "wall_seconds")


@pytest.fixture(scope="module")
def data(comm, tmp_path_factory):
    """Four by four noisy images of two classes, and their first numbers as rows of a table."""

    def write():
        path = tmp_path_factory.mktemp("data") / "bars.h5"
        random = np.random.default_rng(0)
        with h5py.File(path, "w") as file:
            for part, count in (("train", 64), ("test", 32)):
                labels = np.arange(count) % 2
                inputs = random.integers(0, 80, (count, 1, 4, 4), dtype=np.uint8)
                inputs[labels == 1, :, :2] += 100
                file[f"{part}/inputs"], file[f"{part}/labels"] = inputs, labels
        values = inputs.reshape(len(inputs), -1)[:, :5] / 255
        rows = path.with_suffix(".libsvm")
        rows.write_text("".join(map(row, labels, values)))
        return {"data": path, "rows": rows}

    return comm.run_on_root(write)


def row(label, values):
    features = " ".join(f"{number}:{value:.3f}" for number, value in enumerate(values, start=1))
    return f"{label} {features}\n"


@pytest.fixture
def folder(comm, tmp_path_factory):
    """One folder for all ranks."""
    return comm.run_on_root(lambda: tmp_path_factory.mktemp("runs"))


def job_of(solver, data, iterations=ITERATIONS):
    """A tiny job for the solver, of the first kind of problem that it is for."""
    settings = SETTINGS.format(solver=SOLVERS[solver], iterations=iterations)
    refused = []
    for problem, blocks in itertools.product((EQUATION, LOGISTIC, IMAGES, RESIDUAL), ("", BLOCKS)):
        try:
            job = parse_job(problem.format(**data) + settings + blocks, "a test")
            make_solver(job)
            return job
        except InputError as error:
            refused.append(str(error))
    raise AssertionError("; ".join(refused))


def make_solver(job):
    problem = build.make_problem(job)
    build.make_job_solver(job, build.make_objective(job, problem, Communicator(), 1))


def interrupt(job, comm, path):
    """The first part of a run, whose last checkpoint is damaged."""
    run(job, comm, f"{path}.h5")
    part = path.with_suffix(".ckpt") / f"{INTERRUPTED:08d}" / "part-0.h5"
    part.write_bytes(part.read_bytes()[:-1])


def copy(source, target):
    shutil.copy(f"{source}.h5", f"{target}.h5")
    shutil.copytree(f"{source}.ckpt", f"{target}.ckpt")


def go_on(path, comm, iterations):
    """Goes on, and says which checkpoints were found damaged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resume(str(path), comm, [f"stop.max_iterations={iterations}"])
    return [str(each.message) for each in caught if "damaged" in str(each.message)]


def assert_same_run(one, other):
    found, expected = read_run(f"{one}.h5"), read_run(f"{other}.h5")
    assert found.history.keys() == expected.history.keys()
    for name in expected.history.keys() - set(TIMES):
        assert np.array_equal(found.history[name], expected.history[name], equal_nan=True), name
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
def test_a_resumed_run_has_the_bits_of_one_that_was_never_interrupted(comm, folder, data, solver):
    if comm.size & (comm.size - 1) and solver not in ON_UNEVEN_RANKS:
        pytest.skip("run on powers of two")
    alone, whole, mine = Communicator(), folder / f"whole-{comm.rank}", folder / f"own-{comm.rank}"
    run(job_of(solver, data), alone, f"{whole}.h5")

    interrupt(job_of(solver, data, INTERRUPTED), alone, mine)
    comm.run_on_root(lambda: copy(mine, folder / "shared"))
    named = go_on(folder / "shared.h5", comm, MIDDLE)
    assert len(named) == (1 if comm.is_root else 0)
    comm.barrier()
    copy(folder / "shared", folder / f"end-{comm.rank}")
    go_on(folder / f"end-{comm.rank}.h5", alone, ITERATIONS)

    assert_same_run(folder / f"end-{comm.rank}", whole)
    assert len(read_run(f"{whole}.h5").history["loss"]) == 1 + ITERATIONS
