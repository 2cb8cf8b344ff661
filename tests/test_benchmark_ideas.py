"""What `benchmarks/idea_methods.py` says of its methods, against dense forms and differences."""

import numpy as np
import pytest
import torch

from benchmarks.idea_methods import (
    KroneckerScaled,
    TwoSidedOptions,
    TwoSidedSystem,
    draw_sums,
    make_second_stage,
    place_by_rule,
    widen,
)
from benchmarks.idea_runs import Training
from hpctrain.objective import evaluate_point
from hpctrain.run.pieces import make_objective

EQUATIONS = ("poisson-2d", "burgers-viscous-odd")


def make_small(training, **settings):
    return training.make_problem(problem__points=200, network__depth=3, **settings)


@pytest.fixture
def training():
    return Training("small", "burgers-viscous-odd", 0)


@pytest.fixture
def problem(training):
    return make_small(training, network__width=5)


@pytest.fixture
def theta(problem):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(problem.parameters, dtype=torch.float64, generator=generator)


def make_system(problem, theta, **options):
    objective = make_objective(problem)
    point = evaluate_point(objective, theta)
    return TwoSidedSystem(objective, point, TwoSidedOptions(**options), np.random.default_rng(0))


def test_all_rows_and_columns_give_the_steps_of_levenberg_marquardt(problem, theta):
    system, damping = make_system(problem, theta, share=1.0, rows=None), 1e-3
    objective, factored = system.objective, system.factor(damping)
    rows = objective.residuals.evaluate_rows(theta)[0]
    r, J, N = rows[:, 0], rows[:, 1:], objective.samples
    damped = 2 / N * J.T @ J + damping * torch.eye(len(theta), dtype=torch.float64)
    p = factored.compute_velocity()
    torch.testing.assert_close(p, -torch.linalg.solve(damped, 2 / N * J.T @ r))
    decrease = float(r @ r - (r + J @ p) @ (r + J @ p)) / N
    assert factored.predict_decrease(p) == pytest.approx(decrease)
    moved = objective.share.evaluate_residuals(theta + p)
    correction = -torch.linalg.solve(damped, 2 / N * J.T @ moved + damping * p)
    found = factored.compute_correction(p, torch.zeros_like(p))
    torch.testing.assert_close(found, correction)


def test_directions_are_orthonormal(problem, theta):
    system = make_system(problem, theta, share=0.5, rows=1)
    columns = torch.stack([system.lift(e) for e in torch.eye(len(system.gram)).double()])
    torch.testing.assert_close(columns @ columns.T, torch.eye(len(columns)).double())
    x = torch.linspace(-1, 1, len(theta), dtype=torch.float64)
    torch.testing.assert_close(system.restrict(x), columns @ x)


def test_sums_of_rows_keep_squares_in_the_mean():
    draw, v = np.random.default_rng(0), np.linspace(-1, 2, 50)
    squares = [float(((draw_sums(20, 50, draw) @ v) ** 2).sum()) for _ in range(400)]
    assert np.mean(squares) == pytest.approx(v @ v, rel=0.05)


@pytest.mark.parametrize("noise", [None, 0.0])
def test_a_wider_network_is_the_same_function(training, problem, theta, noise):
    wide = make_small(training, network__width=10)
    points = torch.rand(2, 20, dtype=torch.float64)
    wider = widen(theta, problem.network, wide.network, noise, seed=1)
    before, after = (
        each.evaluate_in_torch(own, "u", points) for each, own in ((problem, theta), (wide, wider))
    )
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_second_network_of_zeros_leaves_the_loss_as_it_was(equation):
    training = Training("small", equation, 0)
    first = make_small(training, network__width=5)
    theta = first.make_initial_parameters(0)
    stage = make_second_stage(first, theta, 1.0)
    scaled = {"problem__name": stage.equations, "problem__scale_distance": False}
    second = make_small(training, **scaled, network__width=5)
    zeros = torch.zeros(second.parameters, dtype=torch.float64)
    before, after = (
        make_objective(each).evaluate(own).loss for each, own in ((first, theta), (second, zeros))
    )
    assert stage.loss * after == pytest.approx(before, rel=1e-10)


def test_kronecker_scaled_gradient_is_that_of_differences(problem, theta):
    scaled = KroneckerScaled(make_objective(problem), problem.network, theta, 1e-2)
    z = scaled.scale(theta, inverse=True)
    torch.testing.assert_close(scaled.scale(z), theta)
    gradient = scaled.evaluate_with_gradient(z).evaluate_gradient()
    d, h = torch.linspace(-1, 1, len(z), dtype=torch.float64), 1e-6
    difference = (scaled.evaluate(z + h * d).loss - scaled.evaluate(z - h * d).loss) / (2 * h)
    assert float(gradient @ d) == pytest.approx(difference, rel=1e-6)


def test_points_of_gauss_integrate_polynomials(training):
    """Five along each coordinate, t in [0, 1] and x in [0, 1]: exact to the degree 9 in each."""
    problem = training.make_problem(problem__points=25)
    place_by_rule(problem, weighted=True)
    (low_t, high_t), (low_x, high_x) = problem.frame.region.bounds
    (t, x), omega = problem.terms[0].points, problem.terms[0].sample_weights
    exact = [
        (high**10 - low**10) / (10 * (high - low))
        for low, high in ((low_t, high_t), (low_x, high_x))
    ]
    assert float((omega * t**9 * x**9).mean()) == pytest.approx(exact[0] * exact[1], rel=1e-12)
    with pytest.raises(ValueError, match="24 points"):
        place_by_rule(training.make_problem(problem__points=24), weighted=True)
