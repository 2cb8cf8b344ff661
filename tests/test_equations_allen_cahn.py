"""The Allen-Cahn reference against refinement, finite differences, and the equation itself."""

import math
from itertools import pairwise

import numpy as np
import pinns
import pytest
import torch
from numpy.polynomial import Chebyshev
from pinns import formed, grid_of, inside, noise

from hpctrain.problems.equations.fields import Field
from hpctrain.problems.equations.library.allen_cahn import AllenCahn, solve
from hpctrain.problems.equations.library.methods.collocation import radau

PDE = AllenCahn()


def reference(t, x):
    t, x = np.broadcast_arrays(t, x)
    points = torch.tensor(np.stack([t.ravel(), x.ravel()]))
    return pinns.reference(PDE, points).numpy().reshape(t.shape)


def spread_of_points():
    """All over the domain, in the layers at x = ±0.55, and towards the corners, where t → 0."""
    random = np.random.default_rng(0)
    anywhere = inside(PDE, 500).numpy()
    layers = [random.uniform(0, 1, 200), 0.55 + 0.05 * random.standard_normal(200)]
    corners = [10 ** random.uniform(-9, 0, 300), 1 - 10 ** random.uniform(-6, 0, 300)]
    return np.concatenate([anywhere, layers, corners], axis=1)


@pytest.mark.parametrize(
    "finer", [{"degree": 1000}, {"stages": 10}, {"panels": 64}, {"sweeps": 30}], ids=str
)
def test_reference_has_converged_in_every_parameter(finer):
    """To 1e-10 where the corner layers are thinnest, far better once they are resolved."""
    t, x = spread_of_points()
    difference = np.abs(solve(PDE.diffusion).at(t, x) - solve(PDE.diffusion, **finer).at(t, x))
    assert difference.max() < 1e-10
    assert difference[t > 4e-3].max() < 5e-11


def finite_differences(n, times):
    """u (T, n + 1) at x = 0, 1/n, …, 1: second order in space, Runge-Kutta of order 4 in time."""
    x = np.arange(n + 1) / n
    u = x**2 * np.cos(np.pi * x)
    diffusion = PDE.diffusion * n**2
    steps = math.ceil(times[0] * 4 * diffusion / 2.5)
    dt = times[0] / steps

    def slope(u):
        slope = 5 * u * (1 - u**2)
        slope[1:-1] += diffusion * (u[2:] - 2 * u[1:-1] + u[:-2])
        slope[0] += 2 * diffusion * (u[1] - u[0])
        slope[-1] = 0
        return slope

    found = []
    for _ in times:
        for _ in range(steps):
            k1 = slope(u)
            k2 = slope(u + dt / 2 * k1)
            k3 = slope(u + dt / 2 * k2)
            k4 = slope(u + dt * k3)
            u = u + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        found.append(u)
    return np.array(found)


def test_reference_agrees_with_extrapolated_finite_differences():
    """Four grids: the error, h² at first, falls as h⁴, h⁶ and h⁸ when extrapolated (Richardson)."""
    times, places = np.arange(1, 9) / 8, np.arange(401) / 400
    exact = reference(times[:, None], places)
    errors = [finite_differences(n, times)[:, :: n // 400] - exact for n in (400, 800, 1600, 3200)]
    for factor in (4, 16, 64):
        errors = [(factor * fine - coarse) / (factor - 1) for coarse, fine in pairwise(errors)]
    assert np.abs(errors[0]).max() < 5e-12


def derivative(function, at, order, radius):
    """By interpolation in 25 Chebyshev nodes within `radius`."""
    domain = [at - radius, at + radius]
    return Chebyshev.interpolate(function, 24, domain).deriv(order)(at)


@pytest.mark.parametrize("t", [0.05, 0.3, 0.61, 0.97])
@pytest.mark.parametrize("x", [0.0, -0.3, 0.45, -0.52, 0.55, 0.6, -0.9, 0.985])
def test_residual_of_the_reference_vanishes(t, x):
    """The terms of the equation reach 2; the derivatives of the interpolants are good to 1e-10."""
    u_t = derivative(lambda t: reference(t, x), t, 1, 0.02)
    u_xx = derivative(lambda x: reference(t, x), x, 2, 0.014)
    jet = {(): reference(t, x), (0,): u_t, (1, 1): u_xx}
    u = Field("u", PDE.frame.axes, jet.__getitem__)
    assert abs(PDE.residuals(pinns.at(PDE, torch.zeros(2, 1)), u)) < 1e-9


def test_reference_meets_initial_and_boundary_conditions_and_is_even():
    t, x = points = grid_of(PDE, 11, 41)
    u = pinns.reference(PDE, points)
    assert (u - x**2 * torch.cos(math.pi * x))[t == 0].abs().max() < 1e-14
    assert torch.equal(u[x.abs() == 1], torch.full((22,), -1.0, dtype=torch.float64))
    assert torch.equal(u, pinns.reference(PDE, torch.stack([t, -x])))


def test_bits_of_the_reference_do_not_depend_on_the_other_points():
    points = inside(PDE, 5000)
    u = pinns.reference(PDE, points)
    shuffled = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pinns.reference(PDE, points[:, shuffled]), u[shuffled])
    for part in (slice(0, 1), slice(4999, 5000), slice(1234, 4321)):
        assert torch.equal(pinns.reference(PDE, points[:, part]), u[part])


def test_initial_and_boundary_conditions_hold_exactly_for_any_network():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)
    initial = torch.stack([torch.zeros_like(x), x])
    assert torch.equal(formed(PDE, initial, noise), x**2 * torch.cos(math.pi * x))
    for end in (-1.0, 1.0):
        boundary = torch.stack([t, torch.full_like(t, end)])
        assert torch.equal(formed(PDE, boundary, noise), -torch.ones_like(t))


def test_three_stages_are_those_of_radau5():
    """Hairer and Wanner 1996, table IV.5.6."""
    nodes, A = radau(3)
    root = math.sqrt(6)
    np.testing.assert_allclose(nodes, [(4 - root) / 10, (4 + root) / 10, 1], rtol=1e-14)
    np.testing.assert_allclose(A[2], [(16 - root) / 36, (16 + root) / 36, 1 / 9], rtol=1e-13)
    np.testing.assert_allclose(A[0, 0], (88 - 7 * root) / 360, rtol=1e-13)
