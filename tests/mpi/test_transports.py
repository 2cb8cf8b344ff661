"""Runs over each transport that needs no GPU: the bits of one rank; and staged, to rounding."""

import numpy as np
import pytest
from pretended_gpu import PLACE

from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.parallel.devices import HOST, Device
from hpctrain.parallel.transports.choice import OFFERS, find_obstacle, list_available
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

JOB = """
[problem]
name = "klein-gordon"
points = 100
[network]
depth = 4
width = 6
[solver]
{solver}
[parallel]
transport = "{transport}"
chunks = 16
[output]
iterates_every = 1
error_every = 1
[stop]
max_iterations = 2
"""
# Sums and gathers of rows; groups of ranks that share a block, where there are three or more.
SOLVERS = {
    "ssbroyden": 'name = "ssbroyden"',
    "gauss-newton": 'name = "gauss-newton"\ndamping = 1e3\ngreatest_damping = 1e12',
    "aspqn": 'name = "aspqn"\nblocks = 2\nlocal_steps = 2',
    "newton-krylov-schwarz": 'name = "newton-krylov-schwarz"\nblocks = 2\nsketch = 32',
}


def job_of(solver, transport):
    text = JOB.format(solver=SOLVERS.get(solver), transport=transport)
    return parse_job(text, "a test")


@pytest.mark.parametrize("transport", list_available(HOST))
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_has_the_same_bits_over_any_transport(
    comm, folder, run_alone, assert_same_run, assert_everywhere, solver, transport
):
    outcome = run(job_of(solver, transport), comm, str(folder / "parallel.h5"))
    found = read_run(folder / "parallel.h5")
    assert_same_run(found, run_alone(job_of(solver, "mpi")))
    assert_everywhere(outcome.iterations == 2, "the iterations")
    named = transport if comm.size > 1 else "none"
    assert_everywhere(found.attributes["transport"] == named, "the transport in the run file")


@pytest.mark.parametrize(("solver", "transport"), [("ssbroyden", "auto"), ("aspqn", "gloo")])
def test_tensors_of_another_device_are_staged(
    comm, folder, run_alone, assert_everywhere, monkeypatch, solver, transport
):
    gpu = Device(PLACE, "a pretended GPU", is_shared=True)
    monkeypatch.setattr("hpctrain.run.train.choose_device", lambda *_: gpu)
    monkeypatch.setattr("hpctrain.parallel.transports.mpi.find_cuda_support", lambda: False)
    run(job_of(solver, transport), comm, str(folder / "parallel.h5"))
    monkeypatch.undo()
    found, expected = read_run(folder / "parallel.h5"), run_alone(job_of(solver, "mpi"))
    carrier = {"auto": "mpi, staged", "gloo": "gloo, staged"}[transport]
    named = carrier if comm.size > 1 else "none"
    assert_everywhere(found.attributes["transport"] == named, "the transport in the run file")
    close = np.allclose(found.iterates.theta, expected.iterates.theta, rtol=1e-6, atol=1e-9)
    assert_everywhere(close, "the iterates are those of one rank up to rounding")


@pytest.mark.parametrize("transport", [t for t in OFFERS if find_obstacle(t, HOST)])
def test_a_transport_that_is_not_possible_is_refused_on_all_ranks(
    comm, folder, assert_everywhere, transport
):
    error = None
    try:
        run(job_of("ssbroyden", transport), comm, str(folder / "run.h5"))
    except InputError as raised:
        error = raised
    wanted = f'parallel.transport = "{transport}" is not possible: '
    assert_everywhere(str(error).startswith(wanted), "the message")
    assert_everywhere(not (folder / "run.h5").exists(), "no run file")
