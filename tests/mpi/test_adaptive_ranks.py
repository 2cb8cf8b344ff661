"""Points and weights that are renewed have the same bits on any ranks, and after a resumption."""

from functools import cache

import numpy as np
import pytest
from job_texts import write_text

from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume, run
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "{problem}"\npoints = 60\ncondition_points = 16\nconstraints = "soft"\n'
    "[problem.adapt]\nevery = 3\n{adapt}",
    network="depth = 3\nwidth = 4",
    output="checkpoint_every = 2\nerror_every = 2\niterates_every = 1",
    stop="max_iterations = {iterations}",
)
SSBROYDEN = 'name = "ssbroyden"'
BLOCKS = 'blocks = 2\nlocal_steps = 2\nkeep_local_memory = true\nlocal_solver = "ssbroyden"'
# Every rule, and every way in which a solver's state is spread.
CASES = {
    "rad, gradients": (
        "burgers", 'points = "rad"\ncandidates = 200\nweights = "gradients"', SSBROYDEN,
    ),
    "r3, ntk, causal": (
        "burgers",
        'points = "r3"\nweights = "ntk"\nsample_weights = "causal"\nepsilons = [1e-3, 1.0]',
        f'name = "aspqn"\n{BLOCKS}\nglobal_solver = "ssbroyden"',
    ),
    "fresh": ("burgers", 'points = "fresh"\nweights = "gradients"', 'name = "spring"'),
    "guard": (
        "burgers", 'points = "rad"\ncandidates = 99\npower = 9.0\nguard = 1.01', SSBROYDEN,
    ),
    "self-adaptive": ("burgers", 'sample_weights = "self-adaptive"', 'name = "torch-lbfgs"'),
    "rad off a box": ("poisson-l-shape", 'points = "rad"', f'name = "mspqn"\n{BLOCKS}'),
}  # fmt: skip
DUE, ITERATIONS = 3, 8


def job_of(case, iterations=ITERATIONS):
    problem, adapt, solver = CASES[case]
    text = JOB.format(problem=problem, adapt=adapt, solver=solver, iterations=iterations)
    return parse_job(text, "a test")


@pytest.fixture(scope="module")
def folder(comm, tmp_path_factory):
    """One folder for all ranks."""
    return comm.run_on_root(lambda: tmp_path_factory.mktemp("adapted"))


@pytest.fixture(scope="module")
def run_alone(comm, folder):
    """The file of a case's run on one rank, made once."""

    @cache
    def find(case):
        path = folder / f"alone-{case}.h5"
        comm.run_on_root(lambda: run(job_of(case), Communicator(), str(path)) and None)
        return path

    return find


def load(path):
    return CheckpointStore(path.with_suffix(".ckpt"), Communicator()).find_latest().load()


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_resumed_on_other_ranks_is_that_of_one_rank_which_nothing_interrupts(
    case, comm, folder, run_alone, assert_same_run
):
    """All ranks stop where a renewal is due next, rank 0 alone where it has just made that one."""
    alone, shared = run_alone(case), folder / f"{case}.h5"
    run(job_of(case, DUE), comm, str(shared))
    comm.barrier()
    made = [f"stop.max_iterations={DUE + 1}"]
    comm.run_on_root(lambda: resume(str(shared), Communicator(), made) and None)
    resume(str(shared), comm, [f"stop.max_iterations={ITERATIONS}"])
    found, expected = read_run(shared), read_run(alone)
    assert_same_run(found, expected)
    stored, whole = load(shared), load(alone)
    assert stored.keys() == whole.keys()
    for leaf in ("loss/points", "loss/sample_weights", "loss/thetas"):
        assert np.array_equal(stored[leaf], whole[leaf])


@pytest.mark.mpi_skip
def test_renewals_are_taken_back_before_and_after_the_run_is_resumed(run_alone):
    """Else the first test would show nothing of the guard."""
    counts = read_run(run_alone("guard")).history["guarded"]
    assert counts[DUE] == 0 < counts[DUE + 1] < counts[ITERATIONS]


@pytest.mark.mpi_skip
@pytest.mark.parametrize("case", CASES)
def test_renewals_change_the_course_of_a_run(case, folder, comm, run_alone):
    """Else the test above would hold of any; one rank shows it."""
    path = folder / f"fixed-{case}.h5"
    fixed = job_of(case)
    fixed = fixed.model_copy(update={"problem": fixed.problem.model_copy(update={"adapt": None})})
    comm.run_on_root(lambda: run(fixed, Communicator(), str(path)) and None)
    adapted = read_run(run_alone(case)).history["loss"]
    assert not np.array_equal(read_run(path).history["loss"], adapted)
