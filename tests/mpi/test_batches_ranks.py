"""Mini-batches of points have the same bits on any ranks, whatever their share of the points."""

import pytest
from job_texts import write_text

from hpctrain.job.settings import parse_job
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "kovasznay"\npoints = 60',
    output="error_every = 2\niterates_every = 1",
    stop="max_iterations = 6",
)


@pytest.mark.parametrize(
    "solver",
    [
        'name = "adam"\nlearning_rate = 0.01\nbatch_size = 7',
        'name = "trust-region"\nbatch_size = 20',
        'name = "apts-weights"\nblocks = 2\nbatch_size = 20',
    ],
)
def test_batches_of_points_have_the_bits_of_one_rank(
    comm, folder, run_alone, assert_same_run, solver
):
    job = parse_job(JOB.format(solver=solver), "a test")
    run(job, comm, str(folder / "all.h5"))
    comm.barrier()
    assert_same_run(read_run(folder / "all.h5"), run_alone(job))
