"""Windows of time have the same bits on any ranks, also where a run goes on on others."""

import pytest
from job_texts import write_text

from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import read_run

JOB = write_text(
    'name = "wave"\npoints = 60\nslabs = 3',
    solver="""[[solver]]
name = "adam"
batch_size = 20
stop.max_iterations = 2
[[solver]]
name = "ssbroyden"
stop.max_iterations = 4""",
    output="checkpoint_every = 2\nerror_every = 3\niterates_every = 1",
    stop="max_iterations = {iterations}",
)


@pytest.mark.filterwarnings("ignore:stage")
def test_a_run_stopped_in_two_windows_has_the_bits_of_one_rank(
    comm, folder, run_alone, assert_same_run
):
    expected, parts = run_alone(parse_job(JOB.format(iterations=99), "a test")), folder / "parts.h5"
    run(parse_job(JOB.format(iterations=4), "a test"), comm, str(parts))
    if comm.is_root:
        resume(str(parts), Communicator(), ["stop.max_iterations=9"])
    comm.barrier()
    resume(str(parts), comm, ["stop.max_iterations=99"])
    found = read_run(parts)
    assert_same_run(found, expected)
    assert found.history["slab"].tolist() == [1] * 7 + [2] * 6 + [3] * 6
    assert (found.parameters == expected.parameters).all()
