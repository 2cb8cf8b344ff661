"""The Burgers reference against other quadratures, the literature, and the equation itself."""

import math

import mpmath
import pytest
import torch
from pinns import field_of, formed, grid_of, inside, noise, reference, residual_of

from hpctrain.problems.equations.library import burgers
from hpctrain.problems.equations.library.burgers import Burgers, cole_hopf

PDE = Burgers()
TIMES = (1e-8, 1e-4, 0.01, 0.1, 0.3, 0.51, 0.75, 1.0)
PLACES = (0.0, 1e-9, 1e-4, 2e-3, 0.01, 0.05, 0.3, 0.7, 0.99, 1 - 1e-9, 1.0)


def spread_of_points():
    """Times and places where the solution is hard: early, late, in the layer, at the ends."""
    x = [-place for place in PLACES] + list(PLACES)
    grids = torch.meshgrid(torch.tensor(TIMES), torch.tensor(x), indexing="ij")
    hard = torch.stack(grids).double().reshape(2, -1)
    return torch.cat([hard, inside(PDE, 1000)], dim=1)


def trapezoidal(points, step=0.05, reach=16.0):
    """The Cole-Hopf integrals in z by the trapezoidal rule, in float64.

    The rule converges geometrically for entire integrands that decay. The integrand is below
    e^{−256 + 100} of its largest value beyond |z| = 16, and halving the step changes nothing.
    """
    t, x = points[:, :, None]
    z = torch.arange(-reach, reach + step, step, dtype=torch.float64)
    y = math.pi * (x - 2 * torch.sqrt(PDE.nu * t) * z)
    exponent = -torch.cos(y) / (2 * math.pi * PDE.nu) - z**2
    f = torch.exp(exponent - exponent.amax(dim=1, keepdim=True))
    return -(torch.sin(y) * f).sum(dim=1) / f.sum(dim=1)


def forty_digits(t, x, step):
    """The same integrals with 40 digits; no logarithms, since mpmath's exponents are unbounded."""
    with mpmath.workdps(40):
        nu = mpmath.mpf(1) / 100 / mpmath.pi
        root = 2 * mpmath.sqrt(nu * mpmath.mpf(t))
        top = bottom = mpmath.mpf(0)
        for k in range(-round(16 / step), round(16 / step) + 1):
            z = k * mpmath.mpf(step)
            y = mpmath.pi * (mpmath.mpf(x) - root * z)
            f = mpmath.exp(-mpmath.cos(y) / (2 * mpmath.pi * nu) - z**2)
            top, bottom = top - mpmath.sin(y) * f, bottom + f
        return top / bottom


def test_reference_agrees_with_the_trapezoidal_rule():
    points = spread_of_points()
    exact = trapezoidal(points)
    assert (trapezoidal(points, step=0.025) - exact).abs().max() < 1e-13
    assert (reference(PDE, points) - exact).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("t", "x"),
    [
        (1e-8, 0.3), (1e-4, -0.002), (0.01, 0.9), (0.1, 0.05), (0.3, -0.01), (0.3, 0.4),
        (0.51, 1e-3), (0.51, -1e-4), (0.51, 0.999), (0.75, 2e-3), (1.0, 1e-9), (1.0, 0.01),
        (1.0, -0.5), (1.0, 0.9999),
    ],
)  # fmt: skip
def test_reference_agrees_with_forty_digits(t, x):
    exact = forty_digits(t, x, 0.125)
    assert abs(forty_digits(t, x, 0.0625) - exact) < 1e-20
    computed = reference(PDE, torch.tensor([[t], [x]], dtype=torch.float64))
    assert abs(computed.item() - exact) < 1e-12


def test_reference_has_converged_in_the_number_of_nodes(monkeypatch):
    points = spread_of_points()
    coarse = reference(PDE, points)
    monkeypatch.setattr(burgers, "_NODES", 2 * burgers._NODES)
    assert (reference(PDE, points) - coarse).abs().max() < 1e-13


def test_reference_meets_initial_and_boundary_conditions_and_is_odd():
    t, x = points = grid_of(PDE, 11, 41)
    u = reference(PDE, points)
    assert (u + torch.sin(math.pi * x))[t == 0].abs().max() < 1e-15
    assert u[x.abs() == 1].abs().max() < 1e-13
    assert (u + reference(PDE, torch.stack([t, -x]))).abs().max() < 1e-13


def test_reference_does_not_depend_on_how_points_are_batched():
    points = inside(PDE, 5000)
    torch.testing.assert_close(
        reference(PDE, points)[-3:], reference(PDE, points[:, -3:]), rtol=0, atol=1e-14
    )


def slope_at_origin(t):
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    u = cole_hopf(torch.tensor([t], dtype=torch.float64), x, PDE.nu)
    return torch.autograd.grad(u.sum(), x)[0].item()


def test_steepest_slope_is_the_published_one():
    # Basdevant et al. 1986: the largest |u_x(t, 0)| is 152.00516, at π t = 1.6037.
    times = [(1.6037 + 1e-4 * k) / math.pi for k in range(-20, 21)]
    slopes = [-slope_at_origin(t) for t in times]
    assert max(slopes) == pytest.approx(152.00516, abs=5e-6)
    assert math.pi * times[slopes.index(max(slopes))] == pytest.approx(1.6037, abs=1.01e-4)


def test_residual_of_the_reference_vanishes():
    """The derivatives are those of the quadrature, by autograd.

    The terms of the equation reach 53 at these points, so exact derivatives leave a round-off of
    about 1e-14; the tolerance allows a thousand times that. A quadrature of 60 nodes, which is
    wrong by 1e-9, fails.
    """
    x = torch.tensor([-0.99, -0.3, -0.05, -0.01, -3e-3, 0.0, 1e-3, 7e-3, 0.02, 0.6, 1.0])
    t = torch.tensor([0.01, 0.1, 0.3, 0.45, 0.51, 0.7, 1.0])
    points = torch.stack(torch.meshgrid(t, x, indexing="ij")).double().reshape(2, -1)
    u = field_of(PDE, lambda x: reference(PDE, x), points)
    assert (u * u.x).abs().max() > 50
    assert residual_of(PDE, lambda x: reference(PDE, x), points).abs().max() < 1e-11


def test_initial_and_boundary_conditions_hold_exactly_for_any_network():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)
    initial = torch.stack([torch.zeros_like(x), x])
    assert torch.equal(formed(PDE, initial, noise), -torch.sin(math.pi * x))
    for end in (-1.0, 1.0):
        boundary = torch.stack([t, torch.full_like(t, end)])
        # sin π is 1.2e-16 in floating point; the network contributes nothing at all.
        assert formed(PDE, boundary, noise).abs().max() < 2e-16
