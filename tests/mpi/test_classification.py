"""Classifiers on several ranks: the same bits as on one, and one line for input that is bad."""

from pathlib import Path

import numpy as np
import pytest
from job_texts import DIGITS, write_text

from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import share_chunks
from hpctrain.run import assemble as build
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

JOB = write_text(
    f"{DIGITS}\ntrain_accuracy = true",
    network="{network}",
    output="error_every = 2\niterates_every = 1",
    stop="max_iterations = 4",
    threads="{threads}",
    first='precision = "{precision}"',
)
TUNED = Path(__file__).parents[1] / "tuned_net.py"
NETWORKS = {
    "fcnn": 'kind = "fcnn"\nhidden = [9, 7]',
    "lenet": 'kind = "lenet"',
    "fixed body": f'kind = "{TUNED}:Tuned"',
}
SOLVERS = {
    "adam, mini-batches": 'name = "adam"\nlearning_rate = 0.02\nbatch_size = 25',
    "sgd": 'name = "sgd"\nlearning_rate = 0.05',
    "lbfgs": 'name = "lbfgs"',
    "mspqn": 'name = "mspqn"\nblocks = 3\nlocal_steps = 2',
    "aspqn": 'name = "aspqn"\nblocks = 3\nlocal_steps = 2',
    "aspqn, 2 blocks": 'name = "aspqn"\nblocks = 2\nlocal_steps = 2',
}
CASES = [
    *(("float64", "fcnn", solver) for solver in SOLVERS if solver != "aspqn, 2 blocks"),
    ("float64", "fixed body", "aspqn, 2 blocks"),
    ("float32", "fixed body", "adam, mini-batches"),
    ("float32", "fcnn", "adam, mini-batches"),
    ("float32", "lenet", "adam, mini-batches"),
]


def job_of(folder, precision, network, solver, threads=1):
    settings = {"network": NETWORKS[network], "solver": SOLVERS[solver]}
    text = JOB.format(folder=folder, precision=precision, threads=threads, **settings)
    return parse_job(text, "a test")


@pytest.mark.parametrize(("precision", "network", "solver"), CASES)
def test_a_classifier_has_the_same_bits_on_any_number_of_ranks_and_threads(
    comm, folder, run_alone, assert_same_run, precision, network, solver
):
    threads = 1 + (comm.size == 1)
    job = job_of(folder / "digits", precision, network, solver, threads)
    run(job, comm, str(folder / "parallel.h5"))
    job = job_of(folder / "digits", precision, network, solver)
    found, expected = read_run(folder / "parallel.h5"), run_alone(job)
    assert_same_run(found, expected)
    assert found.history["loss"][-1] < found.history["loss"][0]


def test_each_rank_keeps_only_its_share_of_the_samples(comm, folder):
    job = job_of(folder / "digits", "float32", "fcnn", "sgd")
    problem = build.make_problem(job)
    first, last = share_chunks(8, comm.size)[comm.rank]
    for share, samples in (
        (problem.share(8, comm.rank, comm.size, 1), 67),
        (problem.share_test_samples(8, comm.rank, comm.size, 1), 13),
    ):
        numbers = np.concatenate([chunk.numbers for chunk in share._chunks])
        expected = np.arange(first * samples // 8, last * samples // 8)
        assert np.array_equal(numbers, expected)
        assert sum(len(chunk.inputs) for chunk in share._chunks) == len(expected)


def test_a_network_that_a_rank_makes_otherwise_is_refused_by_all(comm, folder, tmp_path):
    """As by a file that is another on each node."""
    changed = f"self.body[1].bias.data += {comm.rank}; self.head ="
    (tmp_path / "net.py").write_text(TUNED.read_text().replace("self.head =", changed))
    settings = {"network": f'kind = "{tmp_path}/net.py:Tuned"', "solver": 'name = "sgd"'}
    text = JOB.format(folder=folder / "digits", precision="float32", threads=1, **settings)
    problem = build.make_problem(parse_job(text, "a test"))
    build.check_ranks_agree(problem, Communicator())
    if comm.size > 1:
        with pytest.raises(InputError, match=r"Tuned: rank 1 makes it with other values than rank"):
            build.check_ranks_agree(problem, comm)


def test_bad_input_that_one_rank_meets_is_raised_by_all(comm):
    def read():
        if comm.rank == comm.size - 1:
            raise InputError("a damaged file")
        return comm.rank

    with pytest.raises(InputError, match=r"^a damaged file$"):
        comm.run_on_all(read)
    assert comm.run_on_all(lambda: comm.rank) == comm.rank
