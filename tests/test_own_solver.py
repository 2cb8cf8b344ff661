"""A solver is one file: found in its folder by being there, or named by a job where it lies."""

from pathlib import Path

import pytest

import hpctrain.solvers
from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.train import run
from hpctrain.solvers import SOLVERS
from hpctrain.solvers.base import Solver
from hpctrain.store.run_file import read_run

METHOD = '''
"""Gradient descent with a fixed step, θ ← θ - α ∇L(θ)."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.linalg.vectors import norm
from hpctrain.objective import Point, evaluate_point
from hpctrain.options import Options
from hpctrain.solvers.base import Record, Solver


class DescentOptions(Options):
    """Its step."""

    name: str = Field(description="in a job file")
    step: float = Field(1e-3, gt=0, description="α")


@dataclass
class DescentState:
    """θ with its loss and gradient."""

    point: Point


class Descent(Solver[DescentState]):
    """Gradient descent with a fixed step."""

    names = ("descent",)
    Options = DescentOptions

    def init(self, theta: Tensor) -> DescentState:
        return DescentState(evaluate_point(self.setting.objective, theta))

    def step(self, state: DescentState) -> tuple[DescentState, Record]:
        old = state.point
        theta = old.theta - self.options.step * old.gradient
        new = evaluate_point(self.setting.objective, theta)
        return DescentState(new), Record(new.loss, norm(new.gradient), self.options.step, 1, 0)

    def describe(self) -> list[str]:
        return [f"gradient descent, step {self.options.step:g}"]
'''
JOB = """
[problem]
name = "burgers"
points = 64
[network]
kind = "mlp"
depth = 3
width = 6
[solver]
name = "{file}:Descent"
{settings}
[stop]
max_iterations = 5
"""


@pytest.fixture
def job(tmp_path):
    """The text of a job with a solver in a file of its own."""
    (tmp_path / "my_method.py").write_text(METHOD)
    return lambda settings: JOB.format(file=tmp_path / "my_method.py", settings=settings)


def test_a_solver_in_one_file_of_the_users_own_trains(job, tmp_path, capsys):
    output = tmp_path / "run.h5"
    run(parse_job(job("step = 1e-2"), "a test"), Communicator(), str(output))
    losses = read_run(output).history["loss"]
    assert len(losses) == 6 and (losses[1:] < losses[:-1]).all()
    assert "gradient descent, step 0.01" in capsys.readouterr().out


def test_its_job_goes_through_the_run_file_to_the_same_job(job, tmp_path):
    asked = parse_job(job("step = 1e-2"), "a test")
    run(asked, Communicator(), str(tmp_path / "run.h5"))
    assert parse_job(read_run(tmp_path / "run.h5").job, "a test").solver == asked.solver


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("step = -1", "solver.step = -1 is not allowed: a number, above 0"),
        ("stepp = 1", "unknown key solver.stepp; allowed: name, step (did you mean step?)"),
    ],
)
def test_its_settings_are_checked_by_its_own_options(job, settings, line):
    with pytest.raises(InputError) as caught:
        run(parse_job(job(settings), "a test"), Communicator())
    assert str(caught.value) == line


def test_a_class_that_is_no_solver_is_named(job):
    with pytest.raises(InputError, match=r"has no class DescentState of type Solver$"):
        run(parse_job(job("").replace(":Descent", ":DescentState"), "a test"), Communicator())


def test_a_file_in_the_folder_of_solvers_is_found_by_being_there(tmp_path, monkeypatch):
    (tmp_path / "descent.py").write_text(METHOD)
    monkeypatch.setattr(hpctrain.solvers, "__path__", [*hpctrain.solvers.__path__, str(tmp_path)])
    assert hpctrain.solvers.find_solvers().keys() - SOLVERS.keys() == {"descent"}


def test_every_file_of_the_folder_that_has_a_solver_declares_names_and_options():
    for name, solver in SOLVERS.items():
        assert issubclass(solver, Solver) and name in solver.names
        assert "name" in solver.Options.model_fields
    folder = Path(hpctrain.solvers.__path__[0])
    assert {"base", "apts"} == {each.stem for each in folder.glob("[!_]*.py")} - {
        solver.__module__.rpartition(".")[2] for solver in SOLVERS.values()
    }
