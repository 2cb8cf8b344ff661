"""Networks of their own for fields: the bits of one rank, by each way to evaluate the loss."""

import pytest
from job_texts import write_text

from hpctrain.job.settings import parse_job
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "heat-inverse-noisy"\npoints = 60',
    output="error_every = 2\niterates_every = 1",
    stop="max_iterations = 2",
)


@pytest.mark.parametrize(
    "solver",
    [
        'name = "gauss-newton"',
        'name = "newton-krylov-schwarz"\nblocks = 3\nsketch = 60',
        'name = "aspqn"\nblocks = 3\nlocal_steps = 2',
        'name = "adam"\nlearning_rate = 0.01\nbatch_size = 300',
    ],
)
def test_fields_with_networks_of_their_own_have_the_bits_of_one_rank(
    comm, folder, run_alone, assert_same_run, solver
):
    job = parse_job(JOB.format(solver=solver), "a test")
    run(job, comm, str(folder / "all.h5"))
    comm.barrier()
    assert_same_run(read_run(folder / "all.h5"), run_alone(job))
