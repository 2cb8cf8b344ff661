"""Levenberg-Marquardt: Jacobian rows, normal equations, and steps with known answers."""

import itertools
import math

import numpy as np
import pytest
import torch
from residuals import linear_problem, objective_of_residuals, primal, small_burgers

from hpctrain.errors import InputError
from hpctrain.kernels import JetShape, TorchJets, is_native_available, make_jet_evaluator
from hpctrain.kernels.residual import TorchResidual, make_residual_loss
from hpctrain.methods.least_squares.damped_systems import PrimalSystem
from hpctrain.methods.outcomes import Outcome
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import evaluate_point
from hpctrain.solvers import Setting, make_solver
from hpctrain.solvers.gauss_newton import (
    GaussNewton,
    GaussNewtonOptions,
    GaussNewtonState,
    find_damped_step,
)

needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")
BOUNDS = [0, 1, 40, 73, 150]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kernels", [pytest.param("native", marks=needs_native), "torch"])
@pytest.mark.parametrize("adaptive, residual", [(False, False), (True, True), (True, False)])
def test_jacobian_rows_are_the_gradients_of_single_residuals(kernels, adaptive, residual):
    network = DenseNetwork(2, 5, 4, residual=residual, adaptive=adaptive, time_step=0.6)
    points = torch.rand(2, BOUNDS[-1], dtype=torch.float64)
    theta = network.make_initial_parameters(0)
    make = make_jet_evaluator if kernels == "native" else TorchJets
    shape = JetShape.make_closed(2, [(0,), (1, 1)])
    evaluator = make(network, shape, points, BOUNDS)
    burgers = lambda u, _: (u[1][0] + u[0][0] * u[2][0] - 0.01 * u[3][0],)  # noqa: E731
    rows = make_residual_loss(evaluator, burgers, torch.float64).evaluate_jacobian(theta, 1, 3)
    assert rows.shape == (BOUNDS[3] - BOUNDS[1], 1 + network.parameters)
    for row in (0, 17, len(rows) - 1):
        point = points[:, BOUNDS[1] + row, None]
        alone = TorchResidual(TorchJets(network, shape, point, [0, 1]), burgers)
        leaf = alone.sum_losses_and_gradients(theta, 0, network.depth - 1, None)[0]
        r = rows[row, 0]
        torch.testing.assert_close(r.square(), leaf[0], rtol=1e-11, atol=0)
        torch.testing.assert_close(2 * r * rows[row, 1:], leaf[1:], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("damping", [1e-9, 0.1, 10.0])
def test_the_predicted_decrease_is_that_of_the_linearised_residuals(damping):
    A, b, objective = linear_problem()
    theta = torch.randn(5, dtype=torch.float64)
    factored = primal(objective, theta).factor(damping)
    p = factored.compute_velocity()
    r = A @ theta - b
    expected = (r.square().sum() - (r + A @ p).square().sum()) / len(r)
    assert factored.predict_decrease(p) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    "rho, decrease, factor",
    [
        (1.0, 0.5, 1 / 3),
        (1.0, 1e-3, 1e-3),
        (0.9, 1e-3, 1 - 0.8**3),
        (0.5, 0.5, 1.0),
        (0.0, 0.99, 2.0),
    ],
)
def test_damping_follows_nielsens_rule_and_a_loss_that_falls_faster(rho, decrease, factor):
    found = GaussNewtonOptions().ease(3.0, rho, decrease)
    assert found == pytest.approx(3 * factor)


def test_steps_converge_quadratically_to_a_residual_of_zero():
    """r = (10 (y - x²), 1 - x) of Rosenbrock's function, plus a third that is zero there too."""
    x, damping, losses = np.array([-1.2, 1.0]), 1e-2, []
    options = GaussNewtonOptions()

    def residuals(x):
        return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0], np.sin(x[0] * x[1] - 1)])

    def jacobian(x):
        c = np.cos(x[0] * x[1] - 1)
        return np.array([[-20 * x[0], 10], [-1, 0], [x[1] * c, x[0] * c]])

    refusals = 0
    for _ in range(60):
        r, J = residuals(x), jacobian(x)
        p = -np.linalg.solve(J.T @ J + damping * np.eye(2), J.T @ r)
        left, model = np.sum(residuals(x + p) ** 2), np.sum((r + J @ p) ** 2)
        loss = np.sum(r**2)
        losses.append(loss)
        if loss < 1e-28:
            break
        if left < loss:
            rho = (loss - left) / (loss - model)
            x, damping = x + p, options.ease(damping, rho, left / loss)
            refusals = 0
        else:
            refusals += 1
            damping = options.grow(damping, refusals)
    # the last steps square the loss, but for a factor
    assert losses[-1] < 1e-28 and losses[-2] < 1e-10 and losses[-1] < losses[-2] ** 1.6


def test_delayed_control_eases_after_any_step_and_grows_evenly():
    ratio, delayed = GaussNewtonOptions(), GaussNewtonOptions(control="delayed")
    assert delayed.ease(3.0, 0.01, 0.9) == delayed.ease(3.0, 1.0, 0.9) == pytest.approx(1.0)
    assert [ratio.grow(3.0, k) for k in (1, 2, 3)] == [6.0, 12.0, 24.0]
    assert [delayed.grow(3.0, k) for k in (1, 2, 3)] == [4.5, 4.5, 4.5]


def test_the_ratio_is_one_on_linear_residuals_and_damping_falls():
    _A, _b, objective = linear_problem()
    solver = make_solver(Setting(objective), GaussNewtonOptions(damping=1.0))
    start = evaluate_point(objective, torch.zeros(5, dtype=torch.float64))
    state = GaussNewtonState(start, 1.0, iteration=1)
    for expected in (1 / 3, 1 / 9, 1 / 27):
        state, _ = solver.step(state)
        assert state.damping == pytest.approx(expected)


@pytest.mark.parametrize("given", [1e4, 1e3, 1.0])
@pytest.mark.parametrize("factorisation", ["gram", "qr"])
def test_the_first_step_is_damped_as_little_as_lowers_the_loss_most(given, factorisation):
    """Of those that are tried, each by a tenth, or as the loss fell, below the one before."""

    def curved(theta):
        a, b = theta
        return torch.stack([a, 30 * (b - a**2), 0.3 * (b - 1), 0 * a])

    objective = objective_of_residuals(curved, 4, 2)
    options = GaussNewtonOptions(damping=given, corrections=0, factorisation=factorisation)
    solver = make_solver(Setting(objective), options)
    start = solver.init(torch.tensor([1.5, 1.0], dtype=torch.float64))
    new, _ = solver.step(start)

    def lose(damping):
        p = PrimalSystem(objective, start.point).factor(damping).compute_velocity()
        return objective.evaluate(start.point.theta + p).loss

    dampings, losses = [given], [start.point.loss, lose(given)]
    while losses[-1] < losses[-2]:
        dampings.append(dampings[-1] * min(0.1, losses[-1] / losses[0]))
        losses.append(lose(dampings[-1]))
    assert new.point.loss == pytest.approx(losses[-2], rel=1e-9)
    again, _ = solver.step(GaussNewtonState(start.point, given, iteration=1))
    assert again.point.loss == pytest.approx(losses[1], rel=1e-9)


def test_more_damping_gives_a_shorter_step_towards_steepest_descent():
    _A, _b, objective = linear_problem()
    theta = torch.ones(5, dtype=torch.float64)
    system, plain = primal(objective, theta), GaussNewtonOptions(corrections=0)
    steps = [
        find_damped_step(system.factor(damping), plain).p for damping in (1e-6, 1e-2, 1.0, 1e4)
    ]
    lengths = [float(p.norm()) for p in steps]
    assert lengths == sorted(lengths, reverse=True)
    cosine = torch.nn.functional.cosine_similarity(steps[-1], -system.point.gradient, dim=0)
    assert float(cosine) > 1 - 1e-6


@pytest.mark.parametrize("corrections", [1, 2, 3])
def test_each_correction_solves_the_damped_equation_to_one_order_more(corrections):
    """r = (x + x², y - x³): what is left is of order ‖p‖² (‖p‖/λ)^c, and ‖p‖ falls as 1/λ."""
    objective = objective_of_residuals(
        lambda theta: torch.stack([theta[0] + theta[0] ** 2, theta[1] - theta[0] ** 3]), 2, 2
    )
    theta = torch.tensor([1.0, 1.5], dtype=torch.float64)
    system, left = primal(objective, theta), []
    for damping in (200.0, 400.0):
        factored = system.factor(damping)
        q = factored.compute_velocity()
        for _ in range(corrections):
            q = q + factored.compute_correction(q, torch.zeros_like(q))
        left.append(float((objective.residuals.pull_back(theta, q) + damping * q).norm()))
    assert math.log2(left[0] / left[1]) == pytest.approx(2 * corrections + 2, abs=0.6)


def test_a_step_whose_corrections_grow_is_not_tried_or_keeps_those_before():
    class Scripted:
        """Corrections of given lengths."""

        def __init__(self, *sizes):
            self.sizes = list(sizes)

        def compute_velocity(self):
            return torch.ones(1, dtype=torch.float64)

        def predict_decrease(self, p):
            return 1.0

        def compute_correction(self, q, centre):
            return torch.full((1,), self.sizes.pop(0), dtype=torch.float64)

    find = lambda *sizes: find_damped_step(Scripted(*sizes), GaussNewtonOptions())  # noqa: E731
    assert find(0.8).total is None
    assert float(find(0.5, 0.4).total) == 1.5
    assert float(find(0.5, 1e-4).total) == 1.5001  # so short that no other is asked for
    assert float(find(0.5, 0.1, 1e-4, 1.0).total) == 1.6001


@pytest.mark.parametrize("n", [5, 16])
def test_it_ends_where_residuals_are_at_their_rounding_errors(n):
    A, x = torch.randn(16, n).double(), torch.randn(n).double()
    b = A @ x
    objective = objective_of_residuals(lambda theta: A @ theta - b, 16, n)
    solver = make_solver(Setting(objective), GaussNewtonOptions())
    state = solver.init(x + 1e-3)
    for _ in range(10):
        state, record = solver.step(state)
        if record.outcome.is_final:
            break
    assert record.outcome is Outcome.DAMPING_LIMIT
    assert state.point.loss < 1e-28


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_linear_residuals_are_solved_with_one_jacobian(form, monkeypatch):
    """One iteration from λ = 1e-3, whose own step leaves a part of 1e-7."""
    A, x = torch.randn(16, 16).double() + 6 * torch.eye(16).double(), torch.randn(16).double()
    objective = objective_of_residuals(lambda theta: A @ (theta - x), 16, 16)
    solver = make_solver(Setting(objective), GaussNewtonOptions(form=form))
    start = evaluate_point(objective, torch.zeros(16, dtype=torch.float64))
    lone = primal(objective, start.theta).factor(1e-3).compute_velocity()
    assert objective.evaluate(lone).loss > 1e-9 * start.loss
    made, make = [], GaussNewton._make_system
    monkeypatch.setattr(
        GaussNewton, "_make_system", lambda self, state: made.append(1) or make(self, state)
    )
    new, _ = solver.step(GaussNewtonState(start, 1e-3, iteration=1))
    assert len(made) == 1
    assert new.point.loss < 1e-25 * start.loss


@pytest.mark.parametrize(
    "options, fraction",
    [({"form": "primal"}, 0.05), ({"form": "dual"}, 0.05), ({"sketch": 128}, 0.2)],
)
def test_burgers_falls_in_a_few_iterations(options, fraction):
    problem, objective = small_burgers()
    solver = make_solver(Setting(objective), GaussNewtonOptions(**options))
    state = solver.init(problem.make_initial_parameters(0))
    losses = [state.point.loss]
    for _ in range(30):
        state, record = solver.step(state)
        losses.append(record.loss)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < fraction * losses[0]


@pytest.mark.parametrize("contraction", [0.75, 1e-12], ids=["taken", "refused"])
def test_a_step_is_recorded_as_one_gradient_and_one_update_also_where_it_is_refused(contraction):
    _, objective = small_burgers()
    theta = torch.rand(objective.parameters, dtype=torch.float64)
    solver = make_solver(Setting(objective), GaussNewtonOptions(contraction=contraction))
    state, record = solver.step(solver.init(theta))
    is_taken = contraction == 0.75
    assert (record.step_length > 0) == is_taken == (not torch.equal(state.point.theta, theta))
    assert (record.nominal_gradient_evaluations, record.update_cost) == (1, 1)


def test_a_cutoff_is_refused_where_there_are_no_subdomains_to_cut_directions_of():
    _, objective = small_burgers()
    options = GaussNewtonOptions(factorisation="qr", cutoff=1e-9)
    with pytest.raises(InputError, match=r"^solver.cutoff is for networks of subdomains"):
        make_solver(Setting(objective), options)
