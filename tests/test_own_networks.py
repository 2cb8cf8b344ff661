"""Jobs with a network of the user's own: fixed parameters, warnings, and failures in a run."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from classifiers import write_h5, write_mnist
from job_texts import write_text

from hpctrain.errors import InputError, UserCodeError
from hpctrain.job.settings import parse_job
from hpctrain.networks import kinds
from hpctrain.parallel.communicator import Communicator
from hpctrain.run import assemble as build
from hpctrain.run.train import resume, run
from hpctrain.store.run_file import read_run

TUNED = Path(__file__).parent / "tuned_net.py"
JOB = write_text(
    'name = "classification"\ndata = "{data}"\ndata_path = "{folder}"',
    network='kind = "{kind}"',
    output="checkpoint_every = 2",
    stop="max_iterations = 4",
    first="seed = 5",
)
SOLVERS = {
    "adam": 'name = "adam"\nlearning_rate = 0.02\nbatch_size = 20',
    "aspqn": 'name = "aspqn"\nblocks = 2\nlocal_steps = 2',
    "apts-weights": 'name = "apts-weights"\nblocks = 2\nbatch_size = 5',
}
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x):
        BODY
"""


@pytest.fixture
def tuned(tmp_path):
    folder = write_mnist(tmp_path / "digits")

    def job(solver, *overrides):
        text = JOB.format(
            data="mnist", folder=folder, kind=f"{TUNED}:Tuned", solver=SOLVERS[solver]
        )
        return parse_job(text, "a test", overrides)

    return job


@pytest.fixture
def own(tmp_path):
    """The text of a job for points with 10 features and a network with this forward pass."""

    def text(body):
        (tmp_path / "net.py").write_text(NET.replace("BODY", body))
        if not (tmp_path / "mine.h5").exists():
            write_h5(tmp_path / "mine.h5")
        return JOB.format(
            data="mine.h5", folder=tmp_path, kind=f"{tmp_path}/net.py:Net", solver=SOLVERS["adam"]
        )

    return text


@pytest.mark.parametrize("solver", SOLVERS)
def test_fixed_parameters_keep_their_bits_while_the_others_are_trained(tuned, solver):
    job = tuned(solver)
    problem = build.make_problem(job)
    before = {name: p.clone() for name, p in problem.network._module.named_parameters()}
    objective = build.make_objective(problem, Communicator(), job.parallel.chunks, 1)
    method = build.make_job_solver(job, objective)
    theta = problem.make_initial_parameters(job.seed)
    assert problem.parameters == len(theta) == 12 * 9 + 9 + 9 * 10 + 10
    state = method.init(theta)
    for _ in range(3):
        state, _ = method.step(state)
    assert not torch.equal(state.point.theta, theta)
    (replica,) = objective._share._replicas
    for name, parameter in replica.module.named_parameters():
        same = torch.equal(parameter, before[name].to(parameter.dtype))
        assert same == name.startswith("body.")


@pytest.mark.parametrize("solver", ["adam", "aspqn"])
def test_a_run_with_fixed_parameters_goes_on_to_the_bits_of_one_without_a_break(
    tuned, tmp_path, solver
):
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    run(tuned(solver), Communicator(), str(whole))
    run(tuned(solver, "stop.max_iterations=2"), Communicator(), str(parts))
    resume(str(parts), Communicator(), ["stop.max_iterations=4"])
    found, expected = read_run(parts).history, read_run(whole).history
    for column in ("loss", "gradient_norm", "test_loss"):
        np.testing.assert_array_equal(found[column], expected[column])
    assert expected["loss"][-1] < expected["loss"][0]


def test_the_first_line_after_that_of_the_file_says_what_is_fixed(tuned, capsys):
    run(tuned("adam", "stop.max_iterations=1"), Communicator())
    line = capsys.readouterr().out.splitlines()[1]
    assert "Tuned, 2 tensors of parameters (444 numbers) fixed, logits, n = 217" in line


def test_a_module_that_ends_in_softmax_is_warned_of_unless_sigmoids_are_asked_for(own):
    text = own("return self.body(x).softmax(1)")
    with pytest.warns(UserWarning, match=r"net.py:Net: its outputs are probabilities, but the los"):
        run(parse_job(text, "a test", ["stop.max_iterations=1"]), Communicator())


def test_images_with_their_channels_last_are_warned_of(tmp_path):
    with h5py.File(tmp_path / "last.h5", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/inputs"] = np.random.default_rng(0).random((9, 8, 6, 3))
            file[f"{part}/labels"] = np.arange(9) % 2
    text = JOB.format(data="last.h5", folder=tmp_path, kind="fcnn", solver='name = "adam"')
    problem = build.make_problem(parse_job(text, "a test"))
    (caution,) = problem.cautions
    assert caution.endswith(
        "last.h5 (train): samples of 8 x 6 x 3 are taken as images of 8 channels: if the last is"
        " the channels, store them as (N, 3, 8, 6)"
    )


FAULTS = {
    "return self.body(x) + torch.randn(1)": "net.py:Net draws random numbers: leave it out",
    "raise ValueError('mine')": "net.py:11: ValueError: mine",
    "return self.head(x)": "net.py:11: AttributeError: 'Net' object has no attribute 'head'",
}


@pytest.mark.parametrize("body", FAULTS)
def test_a_network_that_cannot_be_trained_is_one_line(own, body):
    with pytest.raises(InputError) as caught:
        run(parse_job(own(body), "a test"), Communicator())
    assert FAULTS[body] in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_that_fails_on_one_sample_is_a_fault_of_the_users_code(own, tmp_path):
    """Which ends all ranks, for the sample lies on one only: test_equations_late_faults.py."""
    text = own(
        "if (x > 1e3).any():\n            raise ValueError('large')\n        return self.body(x)"
    )
    with h5py.File(tmp_path / "mine.h5", "a") as file:
        file["train/inputs"][7, 4] = 1e4
    job = parse_job(text.replace("[problem]", '[problem]\nscaling = "none"'), "a test")
    with pytest.raises(UserCodeError) as caught:
        run(job, Communicator())
    said = str(caught.value)
    assert "net.py:Net fails when it is evaluated: " in said and "\n" not in said
    assert said.endswith("net.py:12: ValueError: large")


def test_a_kind_of_network_in_their_folder_is_found_by_being_there(tmp_path, monkeypatch):
    (tmp_path / "linear.py").write_text(
        "from typing import Literal\n"
        "from hpctrain.networks.kinds.base import ClassifierOptions\n"
        "class LinearOptions(ClassifierOptions):\n"
        '    kind: Literal["linear", "affine"]\n'
        "    def make(self, samples, classes, seed): ...\n"
    )
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    assert kinds.find_kinds().keys() - kinds.NETWORKS.groups.keys() == {"linear", "affine"}
