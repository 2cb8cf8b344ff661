"""A rank that fails ends the job: at once, with a non-zero status, never by a hang."""

import re
import time
from pathlib import Path

import pytest

FAULTY = Path(__file__).parent / "mpi" / "faulty.py"
TRACEBACK = ("rank 1 of", "failed", "Traceback", "ArithmeticError: a fault of rank 1")
# What the rank that fails says of it, where it can.
SAID = {
    "exception": TRACEBACK,
    "thread-exception": TRACEBACK,
    "sys-exit": ["rank 1 of 2 left before the end of the run"],
}


@pytest.mark.parametrize(
    ("fault", "ranks"),
    [("exception", 3), ("thread-exception", 2), ("sys-exit", 2), ("os-exit", 2), ("kill", 3)],
)
def test_job_ends_with_an_error_soon_after_one_rank_fails(mpirun, fault, ranks):
    job = mpirun(ranks, FAULTY, fault)
    ended = time.time()
    (failed,) = re.findall(r"rank 1 fails at ([\d.]+)", job.stdout)
    assert job.returncode != 0
    assert ended - float(failed) < 5
    assert all(words in job.stderr for words in SAID.get(fault, []))


PARTING = """
import sys
from hpctrain.parallel import finish, start
from hpctrain.parallel.guard import DisagreementError
ranks = start()
ranks.find_maximum([1])
try:
    if ranks.rank == 1:
        ranks.barrier()
    else:
        ranks.find_maximum([1])
except DisagreementError as error:
    if ranks.is_root:
        print(error)
sys.exit(finish(ranks, ranks.rank))
"""


def test_ranks_that_part_are_named_and_then_finish_with_the_highest_status(mpirun):
    """With their places, in debug mode; and without an abort."""
    job = mpirun(3, "-c", PARTING, HPCTRAIN_DEBUG="1")
    assert (job.returncode, job.stderr) == (2, "")
    (line,) = job.stdout.splitlines()
    assert line.startswith("the ranks have parted: ranks 0, 2 at call 2, find_maximum of the comm")
    assert "; rank 1 at call 2, barrier of the communicator < <string>:9" in line
