"""A rank that fails ends the job: at once, with a non-zero status, never by a hang."""

import re
import time
from pathlib import Path

import pytest

FAULTY = Path(__file__).parent / "mpi" / "faulty.py"


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("fault", ["exception", "thread-exception", "sys-exit", "os-exit", "kill"])
def test_job_ends_with_an_error_soon_after_one_rank_fails(mpirun, fault, ranks):
    job = mpirun(ranks, FAULTY, fault)
    ended = time.time()
    (failed,) = re.findall(r"rank 1 fails at ([\d.]+)", job.stdout)
    assert job.returncode != 0
    assert ended - float(failed) < 5


@pytest.mark.parametrize("fault", ["exception", "thread-exception"])
def test_traceback_names_the_rank(mpirun, fault):
    job = mpirun(2, FAULTY, fault)
    assert "rank 1 of 2 failed" in job.stderr
    assert "Traceback" in job.stderr
    assert "ArithmeticError: a fault of rank 1" in job.stderr


def test_early_exit_is_named(mpirun):
    assert "rank 1 of 2 left before the end of the run" in mpirun(2, FAULTY, "sys-exit").stderr


def test_finish_returns_the_highest_status_without_an_abort(mpirun):
    job = mpirun(3, FAULTY, "none")
    assert job.returncode == 2
    assert job.stderr == ""


PARTING = """
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
finish(ranks)
"""


def test_ranks_that_part_are_named_with_their_places_in_debug_mode(mpirun):
    job = mpirun(3, "-c", PARTING, HPCTRAIN_DEBUG="1")
    assert job.returncode == 0, job.stderr
    (line,) = job.stdout.splitlines()
    assert line.startswith("the ranks have parted: ranks 0, 2 at call 2, find_maximum of the comm")
    assert "; rank 1 at call 2, barrier of the communicator < <string>:8" in line
