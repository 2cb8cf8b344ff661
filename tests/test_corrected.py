"""First-order consistency: the corrected local objective has the global gradient at its origin."""

import pytest
import torch

from hpctrain.objective import make_consistent
from tests.quadratic import objective_of, random_quadratic


@pytest.fixture
def objective():
    return objective_of(random_quadratic(7, samples=4))


@pytest.fixture
def theta():
    return torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_gradient_of_local_model_equals_global_gradient(objective, theta):
    gradient = objective.evaluate_with_gradient(theta).evaluate_gradient()
    local, _ = make_consistent(objective.subset(torch.tensor([1, 3])), gradient, theta)
    assert torch.allclose(
        local.evaluate(theta).evaluate_gradient(), gradient, rtol=1e-14, atol=1e-14
    )
    assert torch.allclose(
        local.evaluate_with_gradient(theta).evaluate_gradient(), gradient, rtol=1e-14, atol=1e-14
    )


def test_the_linear_term_is_in_the_value_and_in_the_gradient(objective, theta):
    gradient = objective.evaluate_with_gradient(theta).evaluate_gradient()
    local, _ = make_consistent(objective.subset(torch.tensor([0])), gradient, theta)
    away, direction, h = theta + 1.0, torch.ones(7, dtype=torch.float64), 1e-4
    slope = (
        local.evaluate(away + h * direction).loss - local.evaluate(away - h * direction).loss
    ) / (2 * h)
    assert slope == pytest.approx(
        float(local.evaluate_with_gradient(away).evaluate_gradient() @ direction), rel=1e-8
    )


def test_a_subset_is_the_mean_over_its_samples_and_counts_as_its_part(objective, theta):
    loss = objective._share
    before = objective.counts.gradient_evaluations
    chosen = torch.tensor([0, 2])
    found = objective.subset(chosen).evaluate_with_gradient(theta)
    A, b = loss.A[chosen].mean(0), loss.b[chosen].mean(0)
    assert found.loss == pytest.approx(float(0.5 * theta @ A @ theta - b @ theta), rel=1e-14)
    assert torch.allclose(found.evaluate_gradient(), A @ theta - b, rtol=1e-14, atol=1e-14)
    assert objective.counts.gradient_evaluations - before == 0.5


def test_hessian_vector_products_are_those_of_the_mean(objective, theta):
    mean = objective._share.A.mean(0)
    assert torch.allclose(objective.multiply_hessian(theta, theta), mean @ theta, atol=1e-14)
