"""The pieces of a run, made and stepped by hand."""

import numpy as np
import pytest
import torch
from test_python_runs import TABLES, Descent, train

import hpctrain
from hpctrain import InputError

PROBLEM = {key: TABLES[key] for key in ("problem", "network")}


def test_steps_by_hand_are_those_of_a_run():
    problem = hpctrain.make_problem(PROBLEM)
    objective = hpctrain.make_objective(problem, chunks=4)
    solver = hpctrain.make_solver(objective, "ssbroyden")
    state = solver.init(problem.make_initial_parameters(seed=0))
    losses = [state.point.loss]
    for _ in range(6):
        state, record = solver.step(state)
        losses.append(record.loss)
    result = train()
    assert np.array_equal(losses, result.history["loss"])
    assert np.array_equal(state.point.theta, result.theta)
    assert objective.counts.gradient_evaluations == result.history["gradient_evaluations"][-1]


def test_the_loss_and_its_derivatives_are_there_at_any_parameters():
    problem = hpctrain.make_problem(PROBLEM, set={"problem.points": 80})
    assert problem.samples == 80
    objective = hpctrain.make_objective(problem, chunks=8)
    theta = problem.make_initial_parameters(seed=1)
    v, h = torch.ones_like(theta), 1e-6
    gradient = objective.evaluate_with_gradient(theta).evaluate_gradient()
    along = objective.evaluate(theta + h * v).loss - objective.evaluate(theta - h * v).loss
    assert along / (2 * h) == pytest.approx(float(gradient @ v), rel=1e-6)


def test_a_solver_is_a_name_or_a_class_with_options():
    objective = hpctrain.make_objective(hpctrain.make_problem(PROBLEM), chunks=4)
    assert hpctrain.make_solver(objective, "lbfgs", memory=7).options.memory == 7
    assert hpctrain.make_solver(objective, Descent, step=0.1).options.step == 0.1


def test_what_is_not_allowed_is_said_in_one_line():
    problem = hpctrain.make_problem(PROBLEM)
    objective = hpctrain.make_objective(problem, chunks=4)
    solver, theta = hpctrain.make_solver(objective, "lbfgs"), problem.make_initial_parameters(0)
    for asked, line in (
        (lambda: hpctrain.make_problem({}), "job: problem is missing"),
        (lambda: hpctrain.make_objective(problem), r"chunks = 64 is not allowed: .* at most 60"),
        (lambda: hpctrain.make_objective(problem, chunks=6), "chunks = 6 is not allowed: a power"),
        (lambda: hpctrain.make_objective(problem, threads=10**5), "threads = 100000 is not allow"),
        (lambda: hpctrain.make_solver(objective, "lbfg"), r"did you mean lbfgs\?"),
        (lambda: hpctrain.make_solver(objective, "lbfgs", x=1), "lbfgs: unknown key x; allowed"),
        (lambda: solver.init(theta[1:]), r"theta of shape \(20,\) is not allowed: \(21,\), a"),
        (lambda: objective.evaluate(theta[None]), r"theta of shape \(1, 21\) is not allowed"),
        (lambda: problem.make_initial_parameters(seed=-1), "seed = -1 is not allowed: an integer"),
        (lambda: hpctrain.make_solver(objective, "svrg"), '"svrg" is not allowed: this problem'),
    ):
        with pytest.raises(InputError, match=line) as caught:
            asked()
        assert len(str(caught.value).splitlines()) == 1
