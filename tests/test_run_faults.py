"""A run with a failing rank ends within seconds, non-zero, with what was recorded."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpctrain.parallel.communicator import Communicator
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import read_run

FAULTY = Path(__file__).parent / "mpi" / "faulty_run.py"
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
    "mspqn": 'name = "mspqn"\nblocks = 4\nlocal_steps = 2',
}
CASES = [
    *(("ssbroyden", fault, 2) for fault in ("exception", "nan", "kill")),
    *(("aspqn", fault, 3) for fault in ("exception", "nan", "kill")),
    ("lbfgs", "nan", 2),
    ("mspqn", "nan", 2),
]


@pytest.fixture
def job(tmp_path):
    def write(solver):
        path = tmp_path / "job.toml"
        path.write_text(JOB.format(solver=SOLVERS[solver]))
        return path

    return write


@pytest.mark.parametrize("solver, fault, ranks", CASES)
def test_a_fault_of_one_rank_ends_the_run(mpirun, job, tmp_path, solver, fault, ranks):
    output = tmp_path / "run.h5"
    ended = mpirun(ranks, FAULTY, fault, "run", job(solver), "-o", output, timeout=60)
    finished = time.time()
    (failed,) = re.findall(r"rank 1 fails at ([\d.]+)", ended.stdout)
    assert finished - float(failed) < 6
    assert ended.returncode != 0
    if fault == "exception":
        assert "ArithmeticError: a fault of rank 1" in ended.stderr
    if fault == "nan":
        assert "NonFiniteError" in ended.stderr
        assert "Traceback" in ended.stderr
    assert len(read_run(output).history["loss"]) >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_ends_the_run_with_a_checkpoint_and_status_75(job, tmp_path, number):
    output = tmp_path / "run.h5"
    command = [sys.executable, "-m", "hpctrain", "run", job("lbfgs"), "-o", output]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.time() + 60
    while not (output.exists() and len(read_run(output).history["loss"]) > 3):
        assert time.time() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "stopped: stopped by a signal" in printed
    run = read_run(output)
    assert run.stop_reason == "stopped by a signal"
    checkpoint = CheckpointStore(output.with_suffix(".ckpt"), Communicator()).latest()
    assert checkpoint.iteration == run.history["iteration"][-1]
