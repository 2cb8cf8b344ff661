"""Stop criteria: a row of their table is all that a new one takes, and when they are asked for."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from classifiers import write_mnist
from job_texts import ADAM, DIGITS, FCNN, write_text
from pydantic import Field, create_model
from quadratic import objective_of, random_quadratic

from hpctrain.errors import InputError
from hpctrain.job import settings, stop
from hpctrain.job.stop import Criterion, Shown
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.results import figures, report
from hpctrain.results.summary import Summary
from hpctrain.run.stop import (
    _measure_deciding_gradient,
    _measure_deciding_loss,
    _measure_doubtful_loss,
    weigh,
)
from hpctrain.run.train import run
from hpctrain.solvers.base import Record
from hpctrain.store.run_file import read_run
from hpctrain.study import bands
from hpctrain.study.seeds import SeedRuns, format_comparison

JOB = write_text(
    DIGITS, network=FCNN, solver=ADAM, output="error_every = 1", stop="max_iterations = 60"
)
ROW = Criterion(
    "test_loss",
    "loss of the test samples",
    "test_loss",
    {"gt": 0, "le": 3},
    shown=Shown("test loss", "mean test loss", (2.2, 2.0)),
)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes jobs with one row more in the table."""
    monkeypatch.setattr(stop, "REASONS", (stop.RUNNING, ROW, *stop.REASONS[1:]))
    group = stop.make_options("StopOptions", "When a run ends.", defaults=True)
    field = Field(group(), description="when the run ends")
    extended = create_model("Job", __base__=settings.Job, stop=(group, field))
    monkeypatch.setattr(settings, "Job", extended)
    text = JOB.format(folder=write_mnist(tmp_path / "digits"))
    return lambda *overrides: settings.parse_job(text, "a test", overrides)


def test_a_new_row_is_a_setting_of_the_job_with_its_check(job):
    assert job("stop.test_loss=1.5").stop.test_loss == 1.5
    with pytest.raises(InputError, match=r"test_loss = 4 is not allowed: .* above 0 and at most 3"):
        job("stop.test_loss=4")


def test_a_new_row_is_refused_for_a_problem_that_does_not_measure_it(job):
    overrides = ["problem={name='logistic', data='x'}", "network.kind=none", "stop.test_loss=1.5"]
    with pytest.raises(InputError, match=r"test_loss = 1.5 is not allowed: .* stop.suboptimality"):
        job(*overrides, "solver={name='ssn'}")


def test_a_new_row_stops_a_run_and_is_shown_in_every_table_and_figure(job, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    outcome = run(job("stop.test_loss=2.1"), Communicator(), str(path))
    found = read_run(path)
    assert outcome.reason is ROW and found.stop_reason == "stop.test_loss reached"
    assert found.history["test_loss"][-1] <= 2.1 < found.history["test_loss"][-2]
    tables = report.report([path])
    assert "First record at or below a test loss" in tables and "test loss at iteration" in tables
    group = SeedRuns("adam", (Summary(found),))
    assert "To the first record at or below a test loss" in format_comparison([group], "text")
    drawn = []
    monkeypatch.setattr(figures.style, "save", lambda figure, _: drawn.append(figure))
    figures.plot([path], tmp_path / "a.png")
    bands.draw([group], tmp_path / "b.png")
    for figure in drawn:
        panels = [axes for axes in figure.axes if axes.get_ylabel() == "mean test loss"]
        assert panels and all(2.1 in levels(axes) for axes in panels)


def levels(axes):
    """Where horizontal lines are drawn across an axis."""
    return [line.get_ydata()[0] for line in axes.lines if line.get_label() == "stop.test_loss"]


@pytest.mark.parametrize("ends", [False, True])
def test_loss_and_gradient_of_all_samples_are_asked_for_at_the_end_of_an_epoch_alone(ends):
    """Those of the last mini-batch, here zero, say little."""
    objective, theta = objective_of(random_quadratic(4)), torch.ones(4, dtype=torch.float64)
    parts = SimpleNamespace(objective=objective, place=SimpleNamespace(ranks=Communicator()))
    moment = SimpleNamespace(record=Record(0.0, 0.0, 1.0, 1, 1, ends_epoch=ends))
    point = evaluate_point(objective, theta)
    found = [
        measure(parts, moment, 1.0, point)
        for measure in (_measure_deciding_loss, _measure_deciding_gradient)
    ]
    assert found == ([point.loss, norm(point.gradient)] if ends else [math.inf, math.inf])


@pytest.mark.parametrize(
    ("outcome", "ends", "again"),
    [
        (Outcome.ACCEPTED, True, False),
        (Outcome.NO_DESCENT, False, True),
        (Outcome.SAMPLES_EXHAUSTED, False, False),
        (Outcome.SAMPLES_EXHAUSTED, True, True),
    ],
)
def test_where_all_trials_failed_the_loss_is_looked_at_again(outcome, ends, again):
    objective = objective_of(random_quadratic(4))
    point = evaluate_point(objective, torch.ones(4, dtype=torch.float64))
    record = Record(0.0, 0.0, 1.0, 1, 1, outcome, ends_epoch=ends)
    found = _measure_doubtful_loss(SimpleNamespace(objective=objective), record, point)
    assert found == (point.loss if again else 0.0)


def test_the_weightier_of_two_criteria_is_the_reason():
    asked = stop.StopOptions(max_iterations=3, error=0.1, max_seconds=10.0)
    numbers = {"iteration": 3, "error": 0.05, "elapsed_seconds": 1.0}

    def reason(**changed):
        return stop.REASONS[weigh(stop.list_asked(asked), numbers | changed, [])].text

    assert reason() == "stop.error reached"
    assert reason(error=np.nan) == "stop.max_iterations reached"
    assert reason(elapsed_seconds=11.0) == "stop.max_seconds reached"
    assert reason(iteration=2, error=0.2) == "running"


@pytest.mark.parametrize("criterion", stop.list_criteria(), ids=lambda each: each.key)
def test_a_setting_out_of_reach_is_allowed(criterion):
    stop.StopOptions(**{criterion.key: criterion.out_of_reach})
