"""Line searches on functions of one variable."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpctrain.methods.search.armijo import ArmijoOptions, armijo
from hpctrain.methods.search.strong_wolfe import (
    LineSearchOptions,
    SearchOutcome,
    choose_first_trial,
    strong_wolfe,
)

OPTIONS = LineSearchOptions()

# Moré and Thuente, ACM TOMS 20 (1994), functions 1 to 3 of their tests.
BETA1, BETA2 = 2.0, 0.004


def function_1(a):
    return -a / (a**2 + BETA1)


def function_2(a):
    return (a + BETA2) ** 5 - 2 * (a + BETA2) ** 4


def function_3(a, beta=0.01, length=39):
    if a <= 1 - beta:
        smooth = 1 - a
    elif a >= 1 + beta:
        smooth = a - 1
    else:
        smooth = (a - 1) ** 2 / (2 * beta) + beta / 2
    return smooth + 2 * (1 - beta) / (length * math.pi) * torch.sin(
        torch.as_tensor(length * math.pi / 2 * a)
    )


class _Evaluation:
    def __init__(self, objective, theta):
        self.theta = theta
        with torch.enable_grad():
            x = theta.clone().requires_grad_()
            self._value = objective.phi(x[0])
        self.loss = float(torch.as_tensor(self._value).detach())
        self._objective, self._x, self._gradient = objective, x, None

    def evaluate_gradient(self):
        if self._gradient is None:
            self._objective.gradients += 1
            self._gradient = torch.autograd.grad(self._value, self._x, retain_graph=True)[0]
        return self._gradient


class _Objective:
    def __init__(self, phi):
        self.phi, self.values, self.gradients = phi, 0, 0

    def evaluate(self, theta):
        self.values += 1
        return _Evaluation(self, theta)

    def evaluate_with_gradient(self, theta):
        evaluation = _Evaluation(self, theta)
        evaluation.evaluate_gradient()
        return evaluation


def search(phi, trial, options=OPTIONS, likely=True):
    objective = _Objective(phi)
    theta, direction = torch.zeros(1).double(), torch.ones(1).double()
    start = _Evaluation(objective, theta)
    slope = float(start.evaluate_gradient())
    objective.gradients = 0
    found = strong_wolfe(objective, theta, direction, start.loss, slope, trial, options, likely)
    return found, objective, start.loss, slope


def holds(found, loss, slope, options):
    decrease = found.evaluation.loss <= loss + options.c1 * found.step * slope
    return decrease and abs(float(found.evaluation.evaluate_gradient())) <= options.c2 * abs(slope)


@pytest.mark.parametrize("trial", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize(
    "phi, options",
    [
        (function_1, LineSearchOptions(c1=1e-3, c2=0.1)),
        (function_2, LineSearchOptions(c1=0.1, c2=0.1)),
        (function_3, LineSearchOptions(c1=0.1, c2=0.1)),
    ],
)
def test_strong_wolfe_holds_on_the_functions_of_more_and_thuente(phi, options, trial):
    found, _, loss, slope = search(phi, trial, options)
    assert found.outcome is SearchOutcome.WOLFE
    assert holds(found, loss, slope, options)


@settings(max_examples=200, deadline=None)
@given(curvature=st.floats(1e-6, 1e6), slope=st.floats(-1e3, -1e-3), trial=st.floats(1e-4, 1e4))
def test_strong_wolfe_holds_on_any_parabola(curvature, slope, trial):
    found, *_ = search(lambda a: slope * a + 0.5 * curvature * a**2, trial)
    if found.outcome is SearchOutcome.WOLFE:
        assert abs(slope + curvature * found.step) <= OPTIONS.c2 * abs(slope) * (1 + 1e-9)
    else:  # the minimum lies too many orders of magnitude away for 25 trials
        assert abs(math.log10(-slope / curvature / trial)) > 8


def test_an_accepted_first_trial_costs_one_gradient():
    found, objective, *_ = search(lambda a: (a - 1) ** 2, 1.0)
    assert (found.step, objective.values, objective.gradients) == (1.0, 0, 1)


@pytest.mark.parametrize("likely, gradients", [(True, 2), (False, 1)])
def test_a_step_too_long_is_shortened_by_values_alone(likely, gradients):
    found, objective, *_ = search(lambda a: (a - 1) ** 2, 64.0, likely=likely)
    assert found.outcome is SearchOutcome.WOLFE
    assert objective.values > 1
    assert objective.gradients == gradients


def test_values_that_are_not_finite_are_too_long_a_step():
    found, *_ = search(lambda a: (a - 1) ** 2 if a < 3 else a * math.nan, 50.0)
    assert found.outcome is SearchOutcome.WOLFE
    assert 0 < found.step < 3


def test_all_trials_not_finite_fail_without_a_step():
    found, objective, *_ = search(lambda a: -a if a == 0 else a * math.nan, 1.0)
    assert (found.outcome, found.step, found.evaluation) == (SearchOutcome.FAILED, 0.0, None)
    assert objective.values < OPTIONS.max_trials


@pytest.mark.parametrize("slope", [0.0, 1.0, math.nan])
def test_a_direction_that_does_not_descend_fails_without_a_trial(slope):
    objective = _Objective(lambda a: a)
    found = strong_wolfe(objective, torch.zeros(1), torch.ones(1), 0.0, slope, 1.0, OPTIONS)
    assert (found.outcome, objective.values) == (SearchOutcome.FAILED, 0)


def test_a_trial_as_good_as_the_start_is_no_decrease():
    """Where c₁ α φ'(0) is lost in the last bits of φ the Armijo bound is φ(0) itself."""
    found, *_ = search(lambda a: 1 - 1e-18 * a, 1.0)
    assert (found.outcome, found.evaluation) == (SearchOutcome.FAILED, None)


def test_a_search_comes_far_down_from_where_values_are_not_finite():
    found, *_ = search(lambda a: -a if a < 1e-12 else a * math.inf, 1.0)
    assert 0 < found.step < 1e-12


def test_backtracking_takes_a_rise_within_rounding_errors_where_no_more_is_foreseen():
    objective = _Objective(lambda a: 1 + 4e-16 * a)
    start, d = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert armijo(objective, start, d, 1.0, -1e-16, 1.0, ArmijoOptions()).step == 1.0
    assert armijo(objective, start, d, 1.0, -1e-6, 1.0, ArmijoOptions(max_trials=1)) is None


def test_exhausted_trials_return_the_best_point_with_sufficient_decrease():
    options = LineSearchOptions(c1=1e-4, c2=1e-3, max_trials=2)
    found, _, loss, slope = search(lambda a: (a - 1) ** 4, 0.1, options)
    assert found.outcome is SearchOutcome.DECREASE
    assert found.evaluation.loss <= loss + options.c1 * found.step * slope


def test_the_first_trial_expects_the_last_decrease_again_and_is_capped_at_one():
    assert choose_first_trial(loss=3.0, previous_loss=4.0, slope=-8.0) == 0.25
    assert choose_first_trial(loss=3.0, previous_loss=40.0, slope=-8.0) == 1.0
    assert choose_first_trial(loss=3.0, previous_loss=None, slope=-8.0) == 1.0
    assert choose_first_trial(loss=3.0, previous_loss=3.0, slope=-8.0) == 1.0


@pytest.mark.parametrize("minimum, second", [(5.0, 5.0), (1.2, 2.0), (40.0, 10.0)])
def test_without_a_bracket_the_step_goes_to_the_cubic_s_minimum_2_to_10_times_as_far(
    minimum, second
):
    tried = []

    def phi(a):
        tried.append(float(a.detach()))
        return 0.5 * (a - minimum) ** 2

    strict = LineSearchOptions(c2=0.01)
    start, d = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    objective = _Objective(phi)
    strong_wolfe(objective, start, d, 0.5 * minimum**2, -minimum, 1.0, strict)
    assert tried[:2] == pytest.approx([1.0, second])
