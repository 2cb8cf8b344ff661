"""Windows of time have the same bits on any ranks, also where a run goes on on others."""

import pytest
from job_texts import write_text

from hpctrain.job.settings import parse_job
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

# Values that move at one end and at the other: each window has the Boolean sum of all conditions.
DRIVEN = """
import torch
from hpctrain.problems.equations import Box, Dirichlet, Equations, Initial

class Driven(Equations):
    geometry = Box(t=(0, 1), x=(0, 1))
    conditions = (
        Initial({"u": lambda at: torch.cos(at.x), "u.t": lambda at: at.x - 1}, exact=True),
        Dirichlet({"u": lambda at: torch.exp(-at.t)}, on="x.low", exact=True),
        Dirichlet({"u": lambda at: torch.cos(1 + 0 * at.t)}, on="x.high", exact=True),
    )

    def residuals(self, at, u):
        return u.tt - u.xx
"""
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


def test_windows_whose_sides_move_have_the_bits_of_one_rank(
    comm, folder, run_alone, assert_same_run
):
    comm.run_on_root(lambda: (folder / "driven.py").write_text(DRIVEN) and None)
    text = JOB.format(iterations=99).replace('"wave"', f'"{folder}/driven.py:Driven"')
    job = parse_job(text, "a test")
    run(job, comm, str(folder / "all.h5"))
    comm.barrier()
    assert_same_run(read_run(folder / "all.h5"), run_alone(job))
