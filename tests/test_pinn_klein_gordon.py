"""The Klein-Gordon equation: its conditions, its solution, and that there is something to learn."""

import pytest
import torch

from hpctrain.problems.equations.ansatz import Ansatz, jets
from hpctrain.problems.equations.library.klein_gordon import KleinGordon
from hpctrain.problems.equations.points import grid_points, hammersley_points

PDE = KleinGordon()
POINTS = hammersley_points(PDE.domain, 1000)


def smooth(points):
    """A stand-in for a network."""
    return 100 * torch.sin(3 * points[0] + 1) * torch.cos(2 * points[1])


def test_initial_values_and_velocities_hold_exactly_for_any_network():
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)
    initial = torch.stack([torch.zeros_like(x), x])
    u = PDE.jet(Ansatz(PDE, initial).apply(jets(smooth, initial, PDE.orders)))
    assert torch.equal(u.value, x)
    assert torch.equal(u.t, torch.zeros_like(x))


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_boundary_values_hold_exactly_for_any_network(end):
    t = torch.linspace(0, 12, 49, dtype=torch.float64)
    boundary = torch.stack([t, torch.full_like(t, end)])
    u = Ansatz(PDE, boundary).apply_to_values(smooth(boundary))
    # 1 + (cos t − 1) is cos t up to one rounding; the network contributes nothing at all.
    assert (u - end * torch.cos(t)).abs().max() < 2.3e-16


def test_residual_of_the_reference_vanishes():
    u = PDE.jet(jets(PDE.reference, POINTS, PDE.orders))
    assert PDE.residual(POINTS, u).abs().max() < 1e-14


def test_reference_meets_initial_and_boundary_conditions():
    t, x = points = grid_points(PDE.domain, (13, 21))
    u = PDE.jet(jets(PDE.reference, points, PDE.orders))
    at_start, at_end = t == 0, x.abs() == 1
    assert torch.equal(u.value[at_start], x[at_start])
    assert torch.equal(u.t[at_start], torch.zeros(21, dtype=torch.float64))
    assert torch.equal(u.value[at_end], (x * torch.cos(t))[at_end])


def test_lifting_does_not_solve_the_equation():
    """It would be the solution if its cube of x were an x."""
    u = PDE.jet(jets(PDE.lifting, POINTS, PDE.orders))
    assert PDE.residual(POINTS, u).square().mean() > 1
    assert (u.value - PDE.reference(POINTS)).square().mean() > 0.05
