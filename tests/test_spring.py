"""SPRING: its directions against dense formulas, its step lengths, and how it ends."""

import pytest
import torch
from residuals import full, linear_problem, objective_of_residuals, small_burgers

from hpctrain.errors import InputError
from hpctrain.job.settings import parse_job
from hpctrain.linalg.vectors import norm
from hpctrain.methods.least_squares.damped_systems import PrimalSystem
from hpctrain.methods.least_squares.tall_matrix import transpose_rows
from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import evaluate_point
from hpctrain.solvers import Setting, make_solver
from hpctrain.solvers.spring import SpringOptions, SpringState


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def wide_problem():
    """J (8, 20), r and θ of a linear problem with fewer residuals than parameters."""
    A, b, objective = linear_problem(8, 20)
    theta = torch.randn(20).double()
    return A, A @ theta - b, objective, theta


def make_spring(objective, **options):
    return make_solver(Setting(objective), SpringOptions(**options))


def direct(objective, theta, phi, **options):
    """φ of one step with η = 1 from θ and the last φ."""
    spring = make_spring(objective, learning_rate=1.0, **options)
    state, _ = spring.step(SpringState(evaluate_point(objective, theta), phi))
    torch.testing.assert_close(state.point.theta, theta - state.phi)
    return state.phi


def test_a_direction_is_the_minimiser_of_its_least_squares_problem():
    J, r, objective, theta = wide_problem()
    last, mu, lam = torch.randn(20).double(), 0.7, 0.3
    rows = torch.cat([(2 / 8) ** 0.5 * J, lam**0.5 * torch.eye(20).double()])
    right = torch.cat([(2 / 8) ** 0.5 * r, lam**0.5 * mu * last])
    expected = torch.linalg.lstsq(rows, right[:, None]).solution[:, 0]
    found = direct(objective, theta, last, damping=lam, momentum=mu)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("damping", [1e-2, 1e-6])
def test_without_a_memory_it_is_the_damped_gauss_newton_step_of_the_primal_form(damping):
    """Woodbury's identity."""
    problem, objective = small_burgers()
    theta = problem.make_initial_parameters(0)
    point = evaluate_point(objective, theta)
    expected = PrimalSystem(objective, point).factor(damping).compute_velocity()
    found = direct(objective, theta, torch.randn_like(theta), damping=damping, momentum=0.0)
    torch.testing.assert_close(-found, expected, rtol=1e-7, atol=1e-7 * norm(expected))


@pytest.mark.parametrize("momentum", [0.5, 1 - 1e-12])
def test_of_the_last_direction_stays_what_is_orthogonal_to_the_rows(momentum):
    """And along the rows the residuals are met, whatever was there."""
    J, r, objective, theta = wide_problem()
    last = torch.randn(20).double()
    found = direct(objective, theta, last, damping=1e-12, momentum=momentum)
    along = torch.linalg.pinv(J) @ J
    orthogonal = torch.eye(20).double() - along
    torch.testing.assert_close(orthogonal @ found, momentum * orthogonal @ last)
    torch.testing.assert_close(J @ found, r)


def test_a_tall_matrix_has_the_products_of_the_rows_that_it_is_made_of():
    _, objective = small_burgers()
    n = objective.parameters
    rows, y, v = torch.randn(120, n).double(), torch.randn(120).double(), torch.randn(n).double()
    tall = transpose_rows(rows, [120], objective)
    torch.testing.assert_close(tall.multiply(y), rows.T @ y)
    torch.testing.assert_close(tall.multiply_transposed(v), rows @ v)
    torch.testing.assert_close(full(tall.compute_gram()), rows @ rows.T)


@pytest.mark.parametrize("curvature, halvings", [(0.2, 0), (1.4, 1), (7.0, 2)])
def test_a_step_is_halved_while_that_lowers_the_loss_further(curvature, halvings):
    """r = θ + c θ² - 1 at 0: φ = -1 with η = 1 where c is small."""
    objective = objective_of_residuals(lambda x: x + curvature * x**2 - 1, 1, 1)
    spring = make_spring(objective, damping=1e-12)
    _, record = spring.step(spring.init(torch.zeros(1).double()))
    assert record.step_length == pytest.approx(0.5**halvings)
    losses = [(x + curvature * x**2 - 1) ** 2 for x in (0.5**k for k in range(5))]
    assert losses[halvings] == min(losses)
    assert objective.counts.loss_evaluations == halvings + 2


def test_a_learning_rate_is_taken_as_it_is_up_to_the_longest_step():
    _, _, objective, theta = wide_problem()
    for longest, expected in ((None, 0.25), (1e9, 0.25), (1e-3, None)):
        spring = make_spring(objective, learning_rate=0.25, longest_step=longest)
        state, record = spring.step(spring.init(theta))
        length = 1e-3 if expected is None else expected * norm(state.phi)
        assert record.step_length == pytest.approx(length)


def test_a_longest_step_without_a_learning_rate_is_refused_in_one_line():
    text = '[problem]\nname = "burgers"\n[solver]\nname = "spring"\nlongest_step = 1.0'
    with pytest.raises(InputError, match="longest_step has no effect without learning_rate"):
        parse_job(text, "a test")


def test_a_direction_that_leads_nowhere_is_dropped_and_then_nothing_is_left():
    """At the least-squares solution the memory still moves, and along -∇L nothing does.

    Whole numbers, of which the sums are exact: J = [B; B], r = [d; -d], so that ∇L = 0.
    """
    B, theta, d = (torch.randint(-9, 10, size).double() for size in ((8, 5), (5,), (8,)))
    J, off = torch.cat([B, B]), torch.cat([d, -d])
    objective = objective_of_residuals(lambda x: J @ (x - theta) + off, 16, 5)
    spring = make_spring(objective, damping=1e6, momentum=0.9)
    state = SpringState(evaluate_point(objective, theta), torch.ones(5).double())
    dropped, record = spring.step(state)
    assert record.outcome is Outcome.DIRECTION_DROPPED
    assert not dropped.phi.any() and torch.equal(dropped.point.theta, theta)
    _, record = spring.step(dropped)
    assert record.outcome in (Outcome.NO_NEWTON_DESCENT, Outcome.ACCEPTED)
    assert record.step_length < 1e-12


def test_a_system_that_is_singular_in_rounding_ends_it_and_says_what_to_do():
    J = torch.ones(8, 3).double()
    objective = objective_of_residuals(lambda x: J @ x - 1, 8, 3)
    spring = make_spring(objective, damping=1e-300)
    theta = torch.zeros(3).double()
    state, record = spring.step(spring.init(theta))
    assert record.outcome is Outcome.SINGULAR_SYSTEM
    assert torch.equal(state.point.theta, theta)


def test_a_step_counts_as_the_gradients_and_losses_that_it_evaluates():
    """The rows of J count as a gradient; the search asks for two losses, and a last gradient."""
    problem, objective = small_burgers()
    spring = make_spring(objective)
    _, record = spring.step(spring.init(problem.make_initial_parameters(0)))
    assert objective.counts.gradient_evaluations == 3
    assert objective.counts.loss_evaluations >= 2
    assert (record.nominal_gradient_evaluations, record.update_cost) == (1, 1)


def test_a_renewal_has_loss_and_gradient_of_the_rows_that_the_next_step_takes():
    """Two gradients for both: the rows of J, and the gradient of the new point."""
    problem, objective = small_burgers()
    spring = make_spring(objective)
    start = spring.init(problem.make_initial_parameters(0))
    before = objective.counts.gradient_evaluations
    renewed = spring.renew(start)
    assert renewed.point.loss == pytest.approx(start.point.loss, rel=1e-12)
    torch.testing.assert_close(renewed.point.gradient, start.point.gradient, rtol=1e-9, atol=1e-12)
    found, _ = spring.step(renewed)
    assert objective.counts.gradient_evaluations == before + 2
    expected, _ = spring.step(renewed)
    assert torch.equal(found.point.theta, expected.point.theta)


def test_rows_that_a_renewal_has_evaluated_are_used_at_its_point_alone():
    _, _, objective, theta = wide_problem()
    spring, fresh = make_spring(objective), make_spring(objective)
    spring.renew(spring.init(theta))
    elsewhere = SpringState(evaluate_point(objective, theta + 1), torch.zeros_like(theta))
    found, expected = (each.step(elsewhere)[0].point.theta for each in (spring, fresh))
    assert torch.equal(found, expected)
