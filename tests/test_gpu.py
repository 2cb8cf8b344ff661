"""Runs on a GPU, where there is one: the numbers of the CPU, over every transport that there is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpctrain.store.run_file import read_run

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="needs an NVIDIA GPU")
CHECK = Path(__file__).parent / "triton_check.py"
DEVICE, VISIBLE = "cuda", {"CUDA_VISIBLE_DEVICES": "0"}
JOB = """
[problem]
name = "klein-gordon"
points = 300
[network]
kind = "residual"
depth = 4
width = 8
activation = "adaptive-tanh"
[solver]
{solver}
[parallel]
chunks = 16
threads = 1
device = "{device}"
[output]
iterates_every = 1
[stop]
max_iterations = 4
"""
SOLVERS = {
    "ssbroyden": 'name = "ssbroyden"',
    "aspqn": 'name = "aspqn"\nblocks = 2\nlocal_steps = 3',
    "gauss-newton": 'name = "gauss-newton"',
    "trust-region": 'name = "trust-region"',
}


@pytest.fixture
def iterates(tmp_path):
    """Runs a solver on a device, by the given launcher and settings; its θ (5, n)."""

    def run(launched, solver, device, name, *settings):
        job, output = tmp_path / f"{name}.toml", tmp_path / f"{name}.h5"
        job.write_text(JOB.format(solver=SOLVERS[solver], device=device))
        words = ("-m", "hpctrain", "run", job, "-o", output, *settings)
        ended = launched(*words, timeout=120, **VISIBLE)
        assert ended.returncode == 0, ended.stderr
        return read_run(output).iterates.theta

    return run


@pytest.mark.parametrize("solver", SOLVERS)
def test_iterates_are_those_of_the_cpu_to_rounding(python, iterates, solver):
    found = iterates(python, solver, DEVICE, "gpu")
    assert np.allclose(found, iterates(python, solver, "cpu", "cpu"), rtol=1e-6, atol=1e-9)
    assert np.array_equal(found, iterates(python, solver, DEVICE, "again"))


@pytest.mark.parametrize("solver", ["ssbroyden", "aspqn"])
def test_every_transport_gives_the_same_bits(python, mpirun, iterates, solver):
    info = python("-m", "hpctrain", "info", **VISIBLE).stdout.splitlines()
    (transports,) = (line.split(maxsplit=1)[1] for line in info if line.startswith("transports"))

    def two_ranks(*words, **options):
        return mpirun(2, *words, **options)

    # Two ranks on one GPU: nccl wants one each, and has its own line for that.
    found = [
        iterates(two_ranks, solver, DEVICE, name, "--set", f"parallel.transport={name}")
        for name in transports.split(", ")
        if name != "nccl"
    ]
    assert all(np.array_equal(theta, found[0]) for theta in found)


def test_triton_gives_the_jets_of_torch(python):
    pytest.importorskip("triton")
    done = python(CHECK, DEVICE, timeout=120, **VISIBLE)
    assert done.returncode == 0, done.stderr
    for case, differences in json.loads(done.stdout).items():
        assert max(differences.values()) < 1e-12, case
