"""Radius control, truncated conjugate gradients, and the trust-region solver."""

import math
from itertools import pairwise, takewhile

import pytest
import torch
from pydantic import ValidationError
from quadratic import minimum, objective_of, random_quadratic, setting_of

from hpctrain.decomposition.blocks import Block
from hpctrain.linalg.krylov import UNBOUNDED
from hpctrain.linalg.krylov.steihaug_cg import CGOutcome, steihaug_cg
from hpctrain.methods.quasi_newton.lsr1 import LSR1, Hessian
from hpctrain.methods.trust_region.control import (
    TrustRegionOptions,
    compute_reduction_ratio,
    estimate_rounding,
    is_accepted,
    update_radius,
)
from hpctrain.methods.trust_region.options import make_rule
from hpctrain.methods.trust_region.sampled import Exact, TrustRegionState, make_step
from hpctrain.objective import Counts, Evaluation, Objective, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.solvers import make_solver
from hpctrain.solvers.trust_region import TrustRegionSolverOptions

N = 20
OPTIONS = TrustRegionOptions(min_radius=0.1, max_radius=4.0)


# Radius control


@pytest.mark.parametrize(
    "ratio, step_norm, taken, radius",
    [
        (-math.inf, 1.0, False, 0.5),
        (-3.0, 1.0, False, 0.5),
        (0.2499, 1.0, False, 0.5),
        (0.2499, 0.6, False, 0.3),  # what was tried is what shrinks
        (0.2499, 0.1, False, 0.1),
        (0.25, 1.0, True, 1.0),
        (0.75, 1.0, True, 1.0),
        (0.7501, 1.0, True, 2.0),
        (0.7501, 0.9, True, 1.0),  # the radius did not hold the step back
        (5.0, 1.0, True, 2.0),
    ],
)
def test_acceptance_and_the_update_radius(ratio, step_norm, taken, radius):
    assert is_accepted(ratio, OPTIONS) is taken
    assert update_radius(1.0, ratio, step_norm, OPTIONS) == radius


def test_the_radius_keeps_its_limits():
    assert update_radius(0.15, 0.0, 0.15, OPTIONS) == 0.1
    assert update_radius(3.0, 1.0, 3.0, OPTIONS) == 4.0


@pytest.mark.parametrize("change", [{"radius": 5.0}, {"radius": 0.01}, {"eta1": 0.8}])
def test_contradictory_settings_are_refused(change):
    settings = {"min_radius": 0.1, "max_radius": 4.0} | change
    with pytest.raises(ValidationError):
        TrustRegionOptions(**settings)


@pytest.mark.parametrize("trial", [math.nan, math.inf, -math.inf])
def test_a_trial_that_is_not_finite_is_rejected(trial):
    ratio = compute_reduction_ratio(1.0, trial, 0.5, 1e-15)
    assert not is_accepted(ratio, OPTIONS)
    assert update_radius(1.0, ratio, 1.0, OPTIONS) == 0.5


@pytest.mark.parametrize("predicted", [0.0, -1.0, math.nan])
def test_a_model_that_foresees_no_decrease_is_no_reason_for_a_step(predicted):
    assert compute_reduction_ratio(1.0, 0.5, predicted, 1e-15) == -math.inf


def test_rounding_errors_decide_nothing():
    """Far below δ the ratio is 1 whatever the losses' last bits say; far above δ is not seen."""
    delta = estimate_rounding(1.0, torch.float64)
    assert delta == pytest.approx(2.2e-15, rel=0.01)
    assert compute_reduction_ratio(1.0, 1 - 1e-16, 1e-20, delta) == pytest.approx(1, abs=0.1)
    assert compute_reduction_ratio(1.0, 1 + 1e-16, 1e-20, delta) == pytest.approx(1, abs=0.1)
    assert compute_reduction_ratio(1.0, 1 + 1e-8, 1e-20, delta) < -1e6
    assert compute_reduction_ratio(1.0, 0.9, 0.2, delta) == pytest.approx(0.5, rel=1e-12)
    assert estimate_rounding(1e-9, torch.float64) == pytest.approx(1e-9 * delta, rel=1e-12, abs=0)


# Steihaug-Toint


def spd():
    return random_quadratic(N, spread=2).A.mean(0)


def gradient():
    return torch.linspace(-1, 2, N, dtype=torch.float64)


def model_reduction(A, g, s):
    return float(-(g @ s + 0.5 * s @ A @ s))


def cg(A, g, radius=1e3, tolerance=1e-12, cap=200, preconditioner=None):
    return steihaug_cg(lambda v: A @ v, g, radius, tolerance, cap, preconditioner)


def test_inside_the_region_truncated_cg_solves_the_system():
    A, g = spd(), gradient()
    found = cg(A, g)
    assert found.outcome is CGOutcome.CONVERGED
    torch.testing.assert_close(found.step, -torch.linalg.solve(A, g), rtol=1e-9, atol=1e-11)
    assert found.predicted == pytest.approx(model_reduction(A, g, found.step), rel=1e-10)


def test_k_iterations_minimise_over_the_krylov_space():
    A, g, k = spd(), gradient(), 4
    found = cg(A, g, cap=k)
    assert (found.iterations, found.outcome) == (k, CGOutcome.ITERATIONS)
    powers = [g]
    for _ in range(k - 1):
        powers.append(A @ powers[-1] / (A @ powers[-1]).norm())
    K, _ = torch.linalg.qr(torch.stack(powers, dim=1))
    expected = -K @ torch.linalg.solve(K.T @ A @ K, K.T @ g)
    torch.testing.assert_close(found.step, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("fraction", [1e-6, 0.1, 0.5, 0.99])
def test_steps_that_would_leave_the_region_end_on_its_boundary(fraction):
    A, g = spd(), gradient()
    radius = fraction * float(torch.linalg.solve(A, g).norm())
    found = cg(A, g, radius)
    assert found.outcome is CGOutcome.BOUNDARY
    assert float(found.step.norm()) == pytest.approx(radius, rel=1e-14)
    cauchy = -g * min(float(g @ g / (g @ A @ g)), radius / float(g.norm()))
    assert found.predicted >= model_reduction(A, g, cauchy) * (1 - 1e-12)
    assert found.predicted == pytest.approx(model_reduction(A, g, found.step), rel=1e-10)


def test_negative_curvature_is_followed_to_the_boundary():
    A, g = spd() - 5 * torch.eye(N, dtype=torch.float64), gradient()
    found = cg(A, g, radius=3.0)
    assert found.outcome is CGOutcome.NEGATIVE_CURVATURE
    assert float(found.step.norm()) == pytest.approx(3.0, rel=1e-14)
    assert found.predicted == pytest.approx(model_reduction(A, g, found.step), rel=1e-10)


def test_without_a_region_steps_end_before_negative_curvature_or_go_along_the_gradient():
    """Truncated Newton: the first direction has positive curvature, the second none; or neither."""
    A, g = torch.diag(torch.tensor([2.0, -1.0])).double(), torch.tensor([4.0, 1.0]).double()
    cauchy = -g * float(g @ g / (g @ A @ g))
    for B, expected in ((A, cauchy), (-A, -g)):
        found = cg(B, g, UNBOUNDED)
        assert found.outcome is CGOutcome.NEGATIVE_CURVATURE
        torch.testing.assert_close(found.step, expected, rtol=1e-14, atol=0)
        assert found.predicted == pytest.approx(model_reduction(B, g, expected))


@pytest.mark.parametrize("radius", [0.05, 1e3])
def test_a_preconditioner_is_cg_in_scaled_variables(radius):
    """M = C²: s = C⁻¹ t with t from plain CG on C⁻¹AC⁻¹ and C⁻¹g; the region is a ball of t."""
    A, g = spd(), gradient()
    C = torch.linspace(1, 6, N, dtype=torch.float64)
    found = cg(A, g, radius, cap=6, preconditioner=lambda r: r / C**2)
    scaled = cg(A / torch.outer(C, C), g / C, radius, cap=6)
    assert (found.iterations, found.outcome) == (scaled.iterations, scaled.outcome)
    torch.testing.assert_close(found.step, scaled.step / C, rtol=1e-9, atol=1e-12)
    assert found.predicted == pytest.approx(scaled.predicted, rel=1e-10)


def test_an_exact_preconditioner_solves_in_one_iteration():
    A, g = spd(), gradient()
    found = cg(A, g, preconditioner=lambda r: torch.linalg.solve(A, r))
    assert (found.iterations, found.outcome) == (1, CGOutcome.CONVERGED)


def test_without_a_gradient_there_is_no_step():
    found = cg(spd(), torch.zeros(N, dtype=torch.float64))
    assert (found.iterations, found.predicted) == (0, 0.0)
    assert not found.step.any()


# The solver


def knowing(A):
    """An L-SR1 memory whose B is A."""
    memory, n = LSR1(), len(A)
    for s in torch.randn(n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64):
        memory = memory.update(s, A @ s, n)
    return memory


def test_the_ratio_is_one_where_the_model_is_exact():
    loss = random_quadratic(N)
    objective, theta = objective_of(loss), torch.ones(N, dtype=torch.float64)
    point, B = evaluate_point(objective, theta), knowing(loss.A.mean(0)).hessian
    for radius in (1e-3, 0.1, 10.0):
        s = B.minimise(point.gradient, radius).step
        predicted = float(-(point.gradient @ s + 0.5 * s @ B.multiply_vector(s)))
        ratio = compute_reduction_ratio(
            point.loss, objective.evaluate(theta + s).loss, predicted, 0.0
        )
        assert ratio == pytest.approx(1, rel=1e-7)


def test_one_step_with_the_exact_model_is_newtons():
    loss = random_quadratic(N)
    point = evaluate_point(objective_of(loss), torch.ones(N, dtype=torch.float64))
    state = TrustRegionState(point, 100.0, knowing(loss.A.mean(0)))
    new = make_step(Exact(objective_of(loss)), state, make_rule(TrustRegionSolverOptions(memory=N)))
    torch.testing.assert_close(new.point.theta, minimum(loss), rtol=1e-7, atol=1e-9)


class Rosenbrock:
    """A curved valley, not finite beyond |θ₁| = 3, where a run must not go."""

    parameters, dtype, device = 2, torch.float64, torch.device("cpu")
    loss_cost, gradient_cost, prefix_cost = 1, 3, 0

    def sum_losses(self, theta):
        a, b = theta
        return (100 * (b - a**2) ** 2 + (1 - a) ** 2 + 0 * torch.sqrt(3 - a.abs()))[None]

    def sum_losses_and_gradients(self, theta):
        a, b = theta
        slope = torch.stack([-400 * a * (b - a**2) - 2 * (1 - a), 200 * (b - a**2)])
        return torch.cat([self.sum_losses(theta), slope + 0 * torch.sqrt(3 - a.abs())])[None]

    def multiply_hessians(self, theta, v):
        a, b = theta
        H = torch.stack([1200 * a**2 - 400 * b + 2, -400 * a, -400 * a, 200 + 0 * a]).view(2, 2)
        return (H @ v)[None]

    def subset(self, chosen):
        raise NotImplementedError("it has one sample")

    def restrict(self, region, theta):
        raise NotImplementedError("it has one layer")


def rosenbrock():
    return Objective(Rosenbrock(), Communicator(), 1, 1, Counts(1, 3))


def path(options, objective, theta, steps):
    states = [TrustRegionState(evaluate_point(objective, theta), options.trust_region.radius)]
    for _ in range(steps):
        states.append(make_step(Exact(objective), states[-1], make_rule(options)))
    return states


@pytest.mark.parametrize("model", ["linear", "lsr1", "hessian"])
@pytest.mark.parametrize("radius", [0.3, 100.0])
def test_every_step_keeps_its_radius_and_lowers_the_loss(model, radius):
    options = TrustRegionSolverOptions(model=model, trust_region=TrustRegionOptions(radius=radius))
    states = path(options, rosenbrock(), torch.tensor([-1.2, 1.0]).double(), 60)
    rejected = 0
    for old, new in pairwise(takewhile(lambda state: not state.outcome.is_final, states)):
        moved = float((new.point.theta - old.point.theta).norm())
        assert moved <= old.radius * (1 + 1e-12)
        assert moved == pytest.approx(new.step_length, rel=1e-9)
        if new.step_length == 0:
            rejected += 1
            assert new.point is old.point
            assert new.radius < old.radius
        else:
            assert new.point.loss < old.point.loss
    assert rejected


def test_the_bottom_of_a_curved_valley_is_found():
    states = path(
        TrustRegionSolverOptions(memory=2), rosenbrock(), torch.tensor([-1.2, 1.0]).double(), 80
    )
    torch.testing.assert_close(states[-1].point.theta, torch.ones(2).double(), atol=1e-6, rtol=0)


def test_order_one_goes_down_the_gradient_and_learns_no_curvature():
    loss = random_quadratic(N, spread=0.5)
    options = TrustRegionSolverOptions(model="linear")
    states = path(options, objective_of(loss), torch.ones(N, dtype=torch.float64), 300)
    g = states[0].point.gradient
    torch.testing.assert_close(
        states[1].point.theta - states[0].point.theta, -g / g.norm(), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(states[-1].point.theta, minimum(loss), rtol=1e-4, atol=1e-5)
    assert not states[-1].memory.s


def test_rejected_trials_teach_the_model():
    start = torch.tensor([-1.2, 1.0]).double()
    options = TrustRegionSolverOptions(trust_region=TrustRegionOptions(radius=2.0))
    _, second = path(options, rosenbrock(), start, 1)
    assert second.step_length == 0
    assert len(second.memory.s) == 1


@pytest.mark.parametrize("model", ["linear", "lsr1", "hessian"])
def test_evaluations_are_counted_as_they_are_made(model):
    """A loss a trial and a gradient an accepted step; with L-SR1 a gradient a trial."""
    objective = rosenbrock()
    start = torch.tensor([-1.2, 1.0]).double()
    [_, *steps] = path(TrustRegionSolverOptions(model=model), objective, start, 9)
    accepted = sum(step.step_length > 0 for step in steps)
    assert 0 < accepted < 9
    losses, gradients = (0, 9) if model == "lsr1" else (9, accepted)
    assert sum(step.gradients for step in steps) == gradients
    assert objective.counts.loss_evaluations == losses
    assert objective.counts.gradient_evaluations == 1 + gradients


class Nowhere(Objective):
    """Finite at the start alone."""

    def evaluate_with_gradient(self, theta):
        found = super().evaluate_with_gradient(theta)
        if bool((theta == 1).all()):
            return found
        return Evaluation(self, theta, math.nan, math.nan * found.evaluate_gradient())

    def evaluate(self, theta):
        return Evaluation(self, theta, math.nan)


@pytest.mark.parametrize("model", ["linear", "lsr1", "hessian"])
def test_without_a_finite_trial_the_solver_stays_and_says_so_at_the_least_radius(model):
    loss = random_quadratic(N)
    objective = Nowhere(loss, Communicator(), 4, 4, Counts(1, 3))
    options = TrustRegionSolverOptions(
        model=model, trust_region=TrustRegionOptions(min_radius=0.01)
    )
    states = path(options, objective, torch.ones(N, dtype=torch.float64), 12)
    assert states[-1].point is states[0].point
    assert not states[-1].memory.s
    assert states[-1].radius == 0.01
    assert [state.outcome.is_final for state in states] == [False] * 8 + [True] * 5


def test_a_block_is_solved_with_the_others_frozen():
    loss = random_quadratic(N)
    theta, block = torch.ones(N, dtype=torch.float64), Block(1, 1, 1, 8, 20)
    local = objective_of(loss).restrict(block, theta)
    states = path(TrustRegionSolverOptions(), local, block.restrict(theta).clone(), 40)
    A, b = loss.A.mean(0), loss.b.mean(0)
    expected = torch.linalg.solve(A[8:, 8:], b[8:] - A[8:, :8] @ theta[:8])
    torch.testing.assert_close(states[-1].point.theta, expected, rtol=1e-6, atol=1e-7)


def test_a_solver_describes_its_model_and_its_radius():
    setting = setting_of(random_quadratic(N), [N])
    lines = make_solver(setting, TrustRegionSolverOptions(memory=7)).describe()
    assert lines[0] == "trust region, L-SR1 model, 7 secant pairs, OBS"
    first = make_solver(setting, TrustRegionSolverOptions(model="linear")).describe()
    assert first[0] == "trust region, linear model"


def test_a_model_without_pairs_is_gradient_descent():
    g = gradient()
    step = Hessian(1.0).minimise(g, 100.0).step
    torch.testing.assert_close(step, -g, rtol=1e-14, atol=0)
