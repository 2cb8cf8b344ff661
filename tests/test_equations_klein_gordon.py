"""The Klein-Gordon equation: its conditions, its solution, and that there is something to learn."""

import pytest
import torch
from pinns import field_of, formed, grid_of, inside, reference, residual_of

from hpctrain.problems.equations.exact import make_exact_forms
from hpctrain.problems.equations.library.klein_gordon import KleinGordon

PDE = KleinGordon()
POINTS = inside(PDE, 1000)


def exact(points):
    return reference(PDE, points)


def smooth(points):
    """A stand-in for a network."""
    return 100 * torch.sin(3 * points[0] + 1) * torch.cos(2 * points[1])


def test_initial_values_and_velocities_hold_exactly_for_any_network():
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)
    initial = torch.stack([torch.zeros_like(x), x])
    assert torch.equal(formed(PDE, initial, smooth), x)
    assert torch.equal(formed(PDE, initial, smooth, (0,)), torch.zeros_like(x))


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_boundary_values_hold_exactly_for_any_network(end):
    t = torch.linspace(0, 12, 49, dtype=torch.float64)
    boundary = torch.stack([t, torch.full_like(t, end)])
    u = formed(PDE, boundary, smooth)
    # 1 + (cos t − 1) is cos t up to one rounding; the network contributes nothing at all.
    assert (u - end * torch.cos(t)).abs().max() < 2.3e-16


def test_residual_of_the_reference_vanishes():
    assert residual_of(PDE, exact, POINTS).abs().max() < 1e-14


def test_reference_meets_initial_and_boundary_conditions():
    t, x = points = grid_of(PDE, 13, 21)
    u = field_of(PDE, exact, points)
    at_start, at_end = t == 0, x.abs() == 1
    assert torch.equal(u.value[at_start], x[at_start])
    assert torch.equal(u.t[at_start], torch.zeros(21, dtype=torch.float64))
    assert torch.equal(u.value[at_end], (x * torch.cos(t))[at_end])


def test_lifting_does_not_solve_the_equation():
    """It would be the solution if its cube of x were an x."""
    zero = lambda points: 0 * points[0]  # noqa: E731
    u = formed(PDE, POINTS, zero)
    assert residual_of(PDE, make_exact_forms(PDE)["u"].lifting, POINTS).square().mean() > 1
    assert (u - exact(POINTS)).square().mean() > 0.05
