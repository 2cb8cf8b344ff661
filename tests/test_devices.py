"""All tensors of a run are where they belong: none is made on torch's default device by default.

That device is "meta" in some of these runs: its tensors have no values, and the first one that is
made without a word about its device ends the run. In others θ is on a device that pretends to be
a GPU (`pretended_gpu`), where no operation may mix its tensors with those of the CPU.
"""

import ast
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from job_texts import write_text
from pretended_gpu import PLACE

from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import Device
from hpctrain.run.train import resume, run
from hpctrain.solvers import SOLVERS
from hpctrain.store.run_file import read_run

PACKAGE = Path(__file__).parents[1] / "hpctrain"
JOB = write_text(
    "{problem}",
    network="{network}",
    output="checkpoint_every = 1\nerror_every = 1\niterates_every = 1",
    stop="max_iterations = 1",
    chunks=2,
    first='precision = "{precision}"',
)
PINN = 'name = "klein-gordon"\npoints = 60'
SOFT = PINN + '\nconstraints = "soft"\ncondition_points = 10'
ADAPTED = f"{SOFT}\n[problem.adapt]\nevery = 1"
RAD = f'{ADAPTED}\npoints = "rad"\nweights = "ntk"\nsample_weights = "causal"'
R3 = f'{ADAPTED}\npoints = "r3"\nweights = "gradients"'
WINDOWS = 'name = "wave"\npoints = 60\nslabs = 3'
DENSE = 'kind = "residual"\ndepth = 4\nwidth = 4\nactivation = "adaptive-tanh"'
LOGISTIC = 'name = "logistic"\ndata = "{folder}/rows.h5"'
DIGITS = 'name = "classification"\ndata = "mnist"\ndata_path = "{folder}/digits"'
FCNN = 'kind = "fcnn"\nhidden = [6, 5]'
RESNET = 'kind = "dense-resnet"\nwidth = 5\nblocks = 4'
SCHWARZ = "blocks = 3\noverlap = 1\ncoarse_steps = 1\nlocal_steps = 2\nkeep_local_memory = true"
CASES = {
    "lbfgs": (PINN, DENSE, 'name = "lbfgs"\nmomentum = 0.5'),
    "soft constraints": (SOFT, DENSE, 'name = "lbfgs"'),
    "rad, ntk, causal": (RAD, DENSE, 'name = "ssbroyden"'),
    "r3, gradients": (R3, DENSE, 'name = "adam"'),
    "self-adaptive": (f'{ADAPTED}\nsample_weights = "self-adaptive"', DENSE, 'name = "lbfgs"'),
    "ssbfgs": (PINN, DENSE, 'name = "ssbfgs"'),
    "ssbroyden": (PINN, DENSE, 'name = "ssbroyden"'),
    "aspqn": (PINN, DENSE, f'name = "aspqn"\n{SCHWARZ}\nsynchronisation = "subspace"'),
    "mspqn": (PINN, DENSE, f'name = "mspqn"\n{SCHWARZ}\nlocal_solver = "ssbroyden"'),
    "adam": (PINN, DENSE, 'name = "adam"'),
    "batches of points": (SOFT, DENSE, 'name = "adam"\nbatch_size = 20'),
    "windows": (WINDOWS, DENSE, 'name = "adam"\nbatch_size = 20\nstop.max_iterations = 1'),
    "windows that hand on values": (
        'name = "convection"\npoints = 60\nslabs = 3',
        DENSE,
        'name = "adam"\nbatch_size = 20\nstop.max_iterations = 1',
    ),
    "torch-lbfgs": (PINN, DENSE, 'name = "torch-lbfgs"'),
    "gauss-newton": (PINN, DENSE, 'name = "gauss-newton"'),
    "gauss-newton, qr": (PINN, DENSE, 'name = "gauss-newton"\nfactorisation = "qr"'),
    "sketched gauss-newton": (PINN, DENSE, 'name = "gauss-newton"\nsketch = 16'),
    "spring": (PINN, DENSE, 'name = "spring"'),
    "newton-krylov-schwarz": (
        PINN, DENSE, 'name = "newton-krylov-schwarz"\nblocks = 2\nsketch = 16\nmax_products = 3',
    ),
    "trust-region": (PINN, DENSE, 'name = "trust-region"\nmemory = 2'),
    "sgd": (DIGITS, FCNN, 'name = "sgd"\nbatch_size = 20'),
    "lenet": (DIGITS, 'kind = "lenet"', 'name = "adam"\nbatch_size = 20'),
    "hessian": (DIGITS, FCNN, 'name = "trust-region"\nmodel = "hessian"'),
    "apts-weights": (DIGITS, FCNN, 'name = "apts-weights"\nblocks = 2\nlocal_steps = 2'),
    "apts-data": (DIGITS, FCNN, 'name = "apts-data"\nsubdomains = 2\nlocal_steps = 2'),
    "apts-parts": (DIGITS, FCNN, 'name = "apts-parts"\nbatch_size = 20\nparts = 2'),
    "rmtr": (DIGITS, RESNET, 'name = "rmtr"\nbatch_size = 20\ncoarse_steps = 2'),
    "mlvr": (LOGISTIC, "", 'name = "mlvr"'),
    "mlvr-krylov": (LOGISTIC, "", 'name = "mlvr-krylov"'),
    "astrom": (LOGISTIC, "", 'name = "astrom"\nshare = 0.2'),
    "svrg": (LOGISTIC, "", 'name = "svrg"\nlearning_rate = 0.1\ninner_steps = 5'),
    "sarah": (LOGISTIC, "", 'name = "sarah"\nlearning_rate = 0.1\ninner_steps = 5'),
    "ssn": (LOGISTIC, "", 'name = "ssn"\nshare = 0.2\nlearning_rate = 0.5'),
    "newton": (LOGISTIC, "", 'name = "newton"'),
}  # fmt: skip


def job_of(case, data, *overrides):
    problem, network, solver = CASES[case]
    text = JOB.format(
        precision="float64", problem=problem.format(folder=data), network=network, solver=solver
    )
    if not network:
        text = text.replace("[network]\n\n", "")
    return parse_job(text, "a test", overrides)


def run_and_resume(case, data, folder):
    """The run file after an iteration, and another one that goes on from its checkpoint."""
    path = str(folder / "run.h5")
    run(job_of(case, data), Communicator(), path)
    resume(path, Communicator(), ["stop.max_iterations=2"])
    return read_run(path)


@pytest.fixture(scope="module")
def run_plainly(data, tmp_path_factory):
    """The run file of a case after two iterations on the CPU, made once."""

    @cache
    def find(case):
        path = tmp_path_factory.mktemp("plain") / "run.h5"
        run(job_of(case, data, "stop.max_iterations=2"), Communicator(), str(path))
        return read_run(path)

    return find


@pytest.mark.parametrize("case", CASES)
def test_no_tensor_of_a_run_is_made_on_the_default_device(case, data, tmp_path, run_plainly):
    with torch.device("meta"):
        found = run_and_resume(case, data, tmp_path)
    assert len(found.iterates.theta) == 3
    assert np.array_equal(found.iterates.theta, run_plainly(case).iterates.theta)


@pytest.mark.parametrize("case", ["soft constraints", "ssbroyden", "gauss-newton"])
def test_nor_with_the_kernels_in_torch(case, data, tmp_path, monkeypatch):
    monkeypatch.setenv("HPCTRAIN_KERNELS", "torch")
    with torch.device("meta"):
        run(job_of(case, data), Communicator(), str(tmp_path / "run.h5"))
    assert np.isfinite(read_run(tmp_path / "run.h5").iterates.theta).all()


@pytest.mark.parametrize("case", CASES)
def test_a_run_with_all_tensors_on_another_device_is_that_on_the_cpu(
    case, data, tmp_path, monkeypatch, run_plainly
):
    """To round-off: the kernels of the CPU and its sums do without another device's."""
    gpu = Device(PLACE, "a pretended GPU")
    monkeypatch.setattr("hpctrain.run.train.choose_device", lambda *_: gpu)
    found = run_and_resume(case, data, tmp_path)
    monkeypatch.undo()
    assert found.attributes["device"] == "a pretended GPU"
    expected = run_plainly(case).iterates.theta
    assert np.allclose(found.iterates.theta, expected, rtol=1e-6, atol=1e-9)


def test_every_solver_is_among_the_cases():
    assert {job_name(solver) for _, _, solver in CASES.values()} == set(SOLVERS)


def job_name(solver):
    return tomllib.loads(solver)["name"]


def test_tensors_become_arrays_where_their_device_is_known():
    """In `arrays`, in files, and where compiled kernels or MPI take the memory of the CPU."""
    allowed = {PACKAGE / "linalg" / "arrays.py", PACKAGE / "parallel" / "transports" / "mpi.py"}
    allowed |= {
        PACKAGE / "kernels" / f"{name}.py"
        for name in ("native", "dense", "panels", "pairs", "cholesky")
    }
    for file in set(PACKAGE.rglob("*.py")) - allowed - set((PACKAGE / "store").rglob("*.py")):
        tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        called = {node.attr for node in tree if isinstance(node, ast.Attribute)}
        assert not called & {"numpy", "from_numpy", "__array__"}, file
