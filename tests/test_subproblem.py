"""Steps of a trust-region model in the 2- and the infinity norm."""

import pytest
import torch
from quadratic import random_quadratic

from hpctrain.linalg.krylov.box_cg import box_cg
from hpctrain.linalg.krylov.steihaug_cg import CGOutcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.subproblem import follow_gradient, length, minimise_model

N = 20


def matrix(shift=0.0):
    """Symmetric; negative curvature with a shift above its least eigenvalue."""
    return random_quadratic(N, spread=2).A.mean(0) - shift * torch.eye(N, dtype=torch.float64)


def gradient():
    return torch.linspace(-1, 2, N, dtype=torch.float64)


def decrease(A, g, s):
    return float(-(g @ s + 0.5 * s @ A @ s))


def cauchy_decrease(A, g, radius):
    """Of the best point along -g within |s_i| ≤ Δ."""
    most, curvature = radius / float(g.abs().max()), float(g @ A @ g)
    step = min(float(g @ g) / curvature, most) if curvature > 0 else most
    return decrease(A, g, -step * g)


@pytest.mark.parametrize("shift", [0.0, 5.0, 500.0])
@pytest.mark.parametrize("radius", [1e-4, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("cap", [1, 3, 10, 100])
def test_a_step_in_the_box_keeps_it_and_decreases_at_least_as_the_cauchy_point(shift, radius, cap):
    A, g = matrix(shift), gradient()
    found = box_cg(lambda v: A @ v, g, radius, 1e-10, cap)
    assert float(found.step.abs().max()) <= radius
    assert found.predicted == pytest.approx(decrease(A, g, found.step), rel=1e-9)
    assert found.predicted >= cauchy_decrease(A, g, radius) * (1 - 1e-12)
    assert found.iterations <= cap + 1


@pytest.mark.parametrize("radius", [0.02, 0.05, 0.1])
def test_the_minimum_in_the_box_satisfies_its_optimality_conditions(radius):
    """Gradient zero where a variable is free, pointing outwards where it is on a bound."""
    A, g = matrix(), gradient()
    s = box_cg(lambda v: A @ v, g, radius, 1e-12, 500).step
    r, bound = A @ s + g, s.abs() >= radius
    assert bool(bound.any())
    assert not bool(bound.all())
    assert float(r[~bound].abs().max()) < 1e-9
    assert bool((r * s)[bound].le(1e-12).all())


def test_in_a_wide_box_conjugate_gradients_solve_the_system():
    A, g = matrix(), gradient()
    found = box_cg(lambda v: A @ v, g, 1e3, 1e-12, 100)
    assert found.outcome is CGOutcome.CONVERGED
    torch.testing.assert_close(found.step, -torch.linalg.solve(A, g), rtol=1e-9, atol=1e-11)


def test_without_curvature_the_step_in_the_box_is_the_sign_step():
    g = gradient()
    found = box_cg(torch.zeros_like, g, 0.1, 1e-10, 10)
    torch.testing.assert_close(found.step, -0.1 * g.sign(), rtol=0, atol=0)
    assert found.predicted == pytest.approx(0.1 * float(g.abs().sum()))


@pytest.mark.parametrize("kind", [2, "inf"])
def test_steepest_descent_is_the_best_linear_decrease_in_its_norm(kind):
    g = gradient()
    s = follow_gradient(g, 0.3, kind)
    assert length(s, kind) == pytest.approx(0.3)
    dual = float(g.norm()) if kind == 2 else float(g.abs().sum())
    assert float(g @ s) == pytest.approx(-0.3 * dual)
    assert not follow_gradient(0 * g, 0.3, kind).any()


@pytest.mark.parametrize("kind", [2, "inf"])
@pytest.mark.parametrize("model", ["linear", "lsr1", "hessian"])
@pytest.mark.parametrize("radius", [1e-3, 0.1, 10.0])
def test_every_model_predicts_its_own_decrease_within_its_radius(kind, model, radius):
    A, g, memory = matrix(2.0), gradient(), LSR1()
    for s in torch.randn(5, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64):
        memory = memory.update(s, A @ s, 5)
    B = {"linear": None, "lsr1": memory.hessian, "hessian": lambda v: A @ v}[model]
    product = {"linear": torch.zeros_like, "lsr1": memory.hessian.multiply_vector}.get(model, B)
    found = minimise_model(B, g, radius, kind, 10)
    assert found.length == pytest.approx(length(found.step, kind))
    assert found.length <= radius * (1 + 1e-12)
    s = found.step
    assert found.predicted == pytest.approx(float(-(g @ s + 0.5 * s @ product(s))), rel=1e-9)
    assert found.predicted > 0


@pytest.mark.parametrize("kind", [2, "inf"])
def test_conjugate_gradients_end_closer_where_the_gradient_is_small(kind):
    """Steps near a minimum are Newton's, so that convergence is superlinear."""
    A, g = matrix(), 1e-8 * gradient()
    s = minimise_model(lambda v: A @ v, g, 1e3, kind, 100).step
    assert float((A @ s + g).norm()) <= float(g.norm()) ** 1.5
