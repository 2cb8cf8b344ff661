"""Windows of time have the same bits on any ranks, also where a run goes on on others."""

import pytest
from job_texts import write_text

from hpctrain.job.settings import parse_job

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
    run_alone, run_in_parts, assert_same_run
):
    whole, first = (parse_job(JOB.format(iterations=k), "a test") for k in (99, 4))
    expected, found = run_alone(whole), run_in_parts(first, 9, 99)
    assert_same_run(found, expected)
    assert found.history["slab"].tolist() == [1] * 7 + [2] * 6 + [3] * 6
    assert (found.parameters == expected.parameters).all()
