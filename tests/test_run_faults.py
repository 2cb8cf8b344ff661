"""A run with a failing rank ends within seconds, non-zero, with what was recorded."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import processes_of

from hpctrain.parallel.communicator import Communicator
from hpctrain.run.signals import StopSignals
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

FAULTY = Path(__file__).parent / "mpi" / "faulty_run.py"
MPIRUN = Path(sys.executable).parent / "mpirun"
JOB = """
[problem]
name = "burgers"
points = 200
[network]
depth = 4
width = 8
[solver]
{solver}
[parallel]
threads = 1
[output]
checkpoint_every = 1
[stop]
max_iterations = 100000
"""
SOLVERS = {
    "ssbroyden": 'name = "ssbroyden"',
    "lbfgs": 'name = "lbfgs"',
    "aspqn": 'name = "aspqn"\nblocks = 4\nlocal_steps = 2',
}
# What fails, in which phase of which solver; the whole matrix: tests/fault_matrix.py. Of a NaN from
# any solver: tests/mpi/test_every_solver.py.
CASES = [
    ("exception", "communication", 60, "aspqn", 2),
    ("kill", "communication", 60, "ssbroyden", 2),
    ("abort", "io", 6, "aspqn", 2),
    ("nan", "local", 4, "aspqn", 2),
]
SAID = {
    "exception": "ArithmeticError: a fault of rank 1",
    "nan": "became NaN or infinite near the last point",
}


@pytest.fixture
def job(write_job):
    return lambda solver: write_job(JOB.format(solver=SOLVERS[solver]))


@pytest.mark.alone
@pytest.mark.parametrize("fault, phase, count, solver, ranks", CASES)
def test_a_fault_of_one_rank_ends_the_run(
    mpirun, job, tmp_path, fault, phase, count, solver, ranks
):
    output = tmp_path / "run.h5"
    place = (fault, "1", phase, str(count))
    ended = mpirun(ranks, FAULTY, *place, "run", job(solver), "-o", output, timeout=60)
    finished = time.time()
    (failed,) = re.findall(r"rank 1 fails at ([\d.]+)", ended.stdout)
    assert finished - float(failed) < 6
    assert ended.returncode != 0
    if fault in SAID:
        assert ended.stderr.count(SAID[fault]) == 1
    if fault == "nan":
        assert "Traceback" not in ended.stderr
    assert len(read_run(output).history["loss"]) >= 1


def is_of_open_mpi(mpirun):
    told = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=True)
    return "Open MPI" in told.stdout


@pytest.mark.parametrize(
    "ranks, number, target",
    [
        (1, signal.SIGUSR2, "rank"),
        (2, signal.SIGINT, "launcher"),
    ],
)
def test_a_signal_ends_the_run_with_a_checkpoint_and_status_75(
    mpirun, job, tmp_path, ranks, number, target
):
    output = tmp_path / "run.h5"
    launcher = [MPIRUN, "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, sys.executable, "-m", "hpctrain", "run", job("lbfgs"), "-o", output]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 60
    while not (output.exists() and len(read_run(output).history["loss"]) > 3):
        assert time.time() < deadline
        time.sleep(0.05)
    found = processes_of(output)
    assert len(found) == ranks
    os.kill(found[-1] if target == "rank" else process.pid, number)
    printed, _ = process.communicate(timeout=30)
    if target == "launcher" and is_of_open_mpi(MPIRUN):  # which has a status of its own then
        assert process.returncode == 1
    else:
        assert process.returncode == 75
        assert "stopped: stopped by a signal" in printed
    run = read_run(output)
    assert run.stop_reason == "stopped by a signal"
    checkpoint = CheckpointStore(output.with_suffix(".ckpt"), Communicator()).find_latest()
    assert checkpoint.iteration == run.history["iteration"][-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_every_stopping_signal_is_noted_and_then_means_again_what_it_did(number):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert not signals.received
        os.kill(os.getpid(), number)
        assert signals.received
    assert signal.getsignal(number) == before


TWICE = """
import os, signal
from hpctrain.run.signals import StopSignals
with StopSignals() as signals:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.received
    print("noted", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("went on")
"""


def test_a_second_interrupt_stops_at_once(python):
    ended = python("-c", TWICE)
    assert ended.returncode == -signal.SIGINT
    assert ended.stdout == "noted\n"
