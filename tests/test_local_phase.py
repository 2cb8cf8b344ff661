"""The local trust-region phase: its limit, its early ends, and what it learns and keeps."""

import pytest
import torch
from quadratic import minimum, objective_of, random_quadratic

from hpctrain.methods.multilevel.cycles import Room
from hpctrain.methods.multilevel.smoothers import LevelLimit
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.control import RadiusOptions
from hpctrain.methods.trust_region.local_phase import Budget, run_local_phase
from hpctrain.methods.trust_region.models import HessianModel, LinearModel, LSR1Model
from hpctrain.methods.trust_region.sampled import Exact, TrustRegionState, make_step
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.methods.trust_region.subproblem import length
from hpctrain.objective import Counts, evaluate_point

N = 8
MODELS = [LinearModel(), LSR1Model(5), HessianModel()]


@pytest.fixture
def h():
    return objective_of(random_quadratic(N, spread=1))


def start(h):
    return evaluate_point(h, torch.ones(N, dtype=torch.float64))


def rule(model, kind=2):
    return TrialRule(model, RadiusOptions(), kind, debug=True)


def phase(h, model, budget, kind=2, steps=5, radius=1.0, **more):
    limit = Budget(budget, kind)
    return run_local_phase(h, start(h), radius, LSR1(), steps, limit, rule(model, kind), **more)


@pytest.mark.parametrize("kind", [2, "inf"])
@pytest.mark.parametrize("model", MODELS)
def test_the_sum_of_the_steps_keeps_the_budget(h, model, kind):
    end = phase(h, model, 0.05, kind, steps=20)
    assert 0.04 < length(end.step, kind) <= 0.05 * (1 + 1e-12)
    torch.testing.assert_close(end.point.theta, start(h).theta + end.step)
    assert end.point.loss < start(h).loss


@pytest.mark.parametrize("model", MODELS)
def test_a_phase_ends_where_its_budget_is_used_up_and_does_not_blame_the_radius(h, model):
    end = phase(h, model, 0.05, steps=50)
    assert end.trials < 50
    assert end.radius >= 1.0


@pytest.mark.parametrize(("first", "trials"), [(0.0497, 1), (0.045, 2)])
def test_a_phase_ends_where_hardly_anything_of_its_budget_is_left(h, first, trials):
    assert phase(h, LinearModel(), 0.05, steps=2, radius=first).trials == trials


@pytest.mark.parametrize(
    ("first", "smallest", "trials"), [(0.0497, 0.0, 1), (0.045, 0.0, 2), (0.045, 0.1, 0)]
)
def test_on_a_level_also_where_less_than_the_least_radius_of_its_room_is_left(
    h, first, smallest, trials
):
    limit = LevelLimit(Room(start(h).theta, 0.05), smallest)
    end = run_local_phase(h, start(h), first, LSR1(), 2, limit, rule(LinearModel()))
    assert end.trials == trials


@pytest.mark.parametrize("model", MODELS)
def test_within_a_wide_budget_it_is_so_many_plain_trust_region_steps(h, model):
    end = phase(h, model, 100.0)
    state = TrustRegionState(start(h), 1.0)
    for _ in range(5):
        state = make_step(Exact(h), state, rule(model))
    torch.testing.assert_close(end.point.theta, state.point.theta, rtol=1e-12, atol=1e-13)
    assert (end.radius, end.trials) == (state.radius, 5)


def test_at_the_minimum_no_trial_is_made():
    loss = random_quadratic(N)
    h = objective_of(loss)
    point = evaluate_point(h, minimum(loss))
    point.gradient = torch.zeros(N, dtype=torch.float64)
    end = run_local_phase(h, point, 1.0, LSR1(), 5, Budget(1.0), rule(LSR1Model(5)))
    assert (end.trials, end.outcome) == (0, Outcome.NO_DECREASE_FORESEEN)
    assert end.point is point


@pytest.mark.parametrize(("keeps", "gradients"), [(True, 3), (False, 2)])
def test_the_gradient_at_the_end_costs_nothing_where_it_is_not_kept(h, keeps, gradients):
    point = start(h)
    h.counts = Counts(1, 3)
    limit = Budget(100.0)
    rule_ = rule(LinearModel())
    run_local_phase(h, point, 0.1, LSR1(), 3, limit, rule_, keeps_gradient=keeps)
    assert h.counts.gradient_evaluations == gradients
    assert h.counts.loss_evaluations == 3 - gradients
