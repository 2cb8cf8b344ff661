"""Gauss-Newton steps from an orthogonal factorisation of J by chunks, which does not square it."""

import pytest
import torch
from residuals import objective_of_residuals

from hpctrain.methods.least_squares.damped_systems import PrimalSystem
from hpctrain.methods.least_squares.singular_values import SingularSystem
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.triangular_factor import compute_triangular_factor
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.problem import Formulation, PinnProblem

ALONE = Communicator()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small_burgers(points=200):
    network = DenseNetwork(2, 6, 4, residual=True, adaptive=True)
    problem = PinnProblem(Burgers(), network, Formulation(points))
    return Objective.of(problem, ALONE, 16, 1), problem.make_initial_parameters(0)


def conditioned(condition, samples=32, n=12):
    """A (samples, n) of this condition, A x for some x, and the objective of A (θ - x)."""
    U = torch.linalg.qr(torch.randn(samples, n, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q
    A = U @ torch.diag(torch.logspace(0, -torch.tensor(condition).log10(), n).double()) @ V.T
    x = torch.randn(n, dtype=torch.float64)
    b = A @ x
    return A, b, objective_of_residuals(lambda theta: A @ theta - b, samples, n)


@pytest.mark.parametrize("sizes", [[5, 0, 7, 4], [1, 1, 1, 1], [30, 1, 0, 3], [3]])
def test_the_factor_has_the_gram_matrix_of_all_rows(sizes):
    """Chunks of fewer and of more rows than columns; A itself where there are few in all."""
    parts = [torch.randn(k, 6, dtype=torch.float64) for k in sizes]
    A = torch.cat(parts)
    R = compute_triangular_factor(parts, sizes, 6, ALONE)
    assert R.shape == (min(len(A), 6), 6)
    assert torch.equal(R, R.triu()) if len(A) > 6 else torch.equal(R, A)
    torch.testing.assert_close(R.T @ R, A.T @ A, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("points", [40, 200])
def test_the_factor_of_an_objective_has_the_gram_matrix_of_its_jacobian(points):
    """More parameters than residuals, and fewer."""
    objective, theta = small_burgers(points)
    n, N = objective.parameters, objective.samples
    R = objective.residuals.factorise_jacobian(theta)
    assert len(R) == min(N, n + 1)
    point = evaluate_point(objective, theta)
    v = torch.randn(n, dtype=torch.float64)
    B = 2 / N * R[:, :n].T @ R[:, :n]
    product = objective.residuals.multiply_gauss_newton(theta, v)
    torch.testing.assert_close(B @ v, product, rtol=1e-9, atol=0)
    g = 2 / N * R[:, :n].T @ R[:, n]
    torch.testing.assert_close(g, point.gradient, rtol=1e-9, atol=1e-12)
    assert float(R[:, n].square().sum()) / N == pytest.approx(point.loss, rel=1e-12)


def test_an_ill_conditioned_step_is_that_of_dense_least_squares_where_the_gram_form_is_not():
    A, b, objective = conditioned(1e5)
    theta = torch.randn(12, dtype=torch.float64)
    expected = torch.linalg.lstsq(A, (b - A @ theta)[:, None], driver="gelsd").solution[:, 0]
    steps = [
        make(objective).factor(1e-30).compute_velocity()
        for make in (
            lambda o: SingularSystem(o, theta),
            lambda o: PrimalSystem(o, evaluate_point(o, theta)),
        )
    ]
    errors = [float((p - expected).norm() / expected.norm()) for p in steps]
    assert errors[0] < 1e-10
    assert errors[1] > 1e-8


def test_a_step_is_found_where_the_gram_matrix_is_singular_in_rounding():
    """And it leaves as little of consistent residuals as their rounding does."""
    _A, _b, objective = conditioned(1e10)
    theta = torch.randn(12, dtype=torch.float64)
    point = evaluate_point(objective, theta)
    assert PrimalSystem(objective, point).factor(1e-30) is None
    factored = SingularSystem(objective, theta).factor(1e-30)
    p = factored.compute_velocity()
    assert objective.evaluate(theta + p).loss < 1e-22 * point.loss
    assert factored.predict_decrease(p) == pytest.approx(point.loss, rel=1e-12)


@pytest.mark.parametrize("points", [40, 200])
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_steps_and_predictions_are_those_of_the_normal_equations(points, damping):
    objective, theta = small_burgers(points)
    found = SingularSystem(objective, theta).factor(damping)
    expected = PrimalSystem(objective, evaluate_point(objective, theta)).factor(damping)
    p = expected.compute_velocity()
    torch.testing.assert_close(found.compute_velocity(), p, rtol=1e-8, atol=1e-11)
    none = torch.zeros_like(p)
    d = expected.compute_correction(p, none)
    torch.testing.assert_close(found.compute_correction(p, none), d, rtol=1e-7, atol=1e-9)
    assert found.predict_decrease(p) == pytest.approx(expected.predict_decrease(p), rel=1e-9)
