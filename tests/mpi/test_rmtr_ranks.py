"""RMTR on several ranks: the same bits as on one, on every level."""

import numpy as np
import pytest
from job_texts import DIGITS, write_text

from hpctrain.job.settings import parse_job
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

JOB = write_text(
    DIGITS,
    network="{network}",
    solver='name = "rmtr"\nbatch_size = 30\ncoarse_steps = 3\n{solver}',
    output="iterates_every = 1\nerror_every = 2",
    stop="max_iterations = 3",
    chunks=4,
    threads="{threads}",
)
DENSE = 'kind = "dense-resnet"\nwidth = 6\nblocks = {}'
CONVOLUTIONAL = 'kind = "conv-resnet"\nfilters = [2, 3]\nblocks = 2'
CASES = {
    "dense": (DENSE.format(4), "zeta = 0.99"),
    "linear, line search": (DENSE.format(5), 'transfer = "linear"\ncontrol = "line-search"'),
    "cascade": (
        DENSE.format(4),
        "cascade = [{level = 1, epochs = 1.0}, {level = 2, epochs = 1.0}]",
    ),
    "cascade of steps": (
        DENSE.format(4),
        "cascade = [{level = 1, epochs = 0.5, steps = 2}, {level = 3, epochs = 0.5, steps = 2}]",
    ),
    "convolutional": (CONVOLUTIONAL, "levels = 2"),
    "convolutional cascade": (
        CONVOLUTIONAL,
        "levels = 2\nfit_samples = 20\ncascade = [{level = 1, epochs = 0.4, steps = 2}]",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_all_levels_have_the_same_bits_on_any_number_of_ranks_and_threads(
    comm, folder, run_alone, assert_same_run, case
):
    network, solver = CASES[case]

    def job(threads):
        settings = {"folder": folder / "digits", "network": network, "solver": solver}
        return parse_job(JOB.format(threads=threads, **settings), "a test")

    run(job(1 + (comm.size == 1)), comm, str(folder / "parallel.h5"))
    found, expected = read_run(folder / "parallel.h5"), run_alone(job(1))
    assert_same_run(found, expected)
    assert not np.array_equal(found.iterates.theta[0], found.iterates.theta[-1])
