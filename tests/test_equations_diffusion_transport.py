"""The diffusion-transport reference against refinement, an exact series, and the equation."""

import mpmath
import numpy as np
import pinns
import pytest
import torch
from mpmath import mpf
from numpy.polynomial import Chebyshev
from pinns import formed, grid_of, inside, noise

from hpctrain.problems.equations.fields import Field
from hpctrain.problems.equations.library.diffusion_transport import (
    DiffusionTransport,
    expand,
    solve,
)

PDE = DiffusionTransport()


def reference(x, y):
    x, y = np.broadcast_arrays(x, y)
    points = torch.tensor(np.stack([x.ravel(), y.ravel()]))
    return pinns.reference(PDE, points).numpy().reshape(x.shape)


def spread_of_points():
    """All over the square, in both layers, and towards all four corners."""
    random = np.random.default_rng(0)
    near = 10 ** random.uniform(-5, -1, (2, 400))
    corners = np.where(random.integers(0, 2, (2, 400)) == 1, near, 1 - near)
    return np.concatenate([inside(PDE, 400).numpy(), corners], axis=1)


def series(x, y, digits=75, tolerance=1e-18):
    """The exact solution, as a particular one plus a sine series in y.

    p(y) = y − (e^{y/μ} − 1) / (e^{1/μ} − 1) solves −μ p'' + p' = 1, p(0) = p(1) = 0. What is left
    is −p(y) at x = 0 and x = 1, zero at y = 0 and y = 1, and e^{a (x+y)} Σ X_k(x) sin kπy solves
    the homogeneous equation, where a = 1/2μ and X_k'' = γ² X_k, γ² = k²π² + 2a². The sum cancels
    up to 43 digits of the factor e^{a (x+y)}: that many more are carried.
    """
    if min(x, 1 - x) < min(y, 1 - y):
        x, y = y, x
    with mpmath.workdps(digits):
        x, y, a = mpf(x), mpf(y), 1 / (2 * mpf(PDE.mu))
        layer = mpmath.expm1(2 * a)
        scale = mpmath.exp(a * (x + y))
        total, k, term_bound = mpf(0), 0, mpf(1)
        while term_bound > tolerance:
            k += 1
            w, sign = k * mpmath.pi, (-1) ** k
            # ∫ p(y) e^{−ay} sin(wy) dy over (0, 1), from those of y e^{−ay} sin, e^{±ay} sin.
            z = mpmath.mpc(-a, w)
            linear = ((mpmath.exp(-a) * sign * (z - 1) + 1) / z**2).imag
            falling = w * (1 - sign * mpmath.exp(-a)) / (a**2 + w**2)
            rising = w * (1 - sign * mpmath.exp(a)) / (a**2 + w**2)
            b = 2 * (linear - (rising - falling) / layer)
            gamma = mpmath.sqrt(w**2 + 2 * a**2)
            left = mpmath.exp(-gamma * x) - mpmath.exp(-gamma * (2 - x))
            right = mpmath.exp(-gamma * (1 - x)) - mpmath.exp(-gamma * (1 + x))
            X = (left + mpmath.exp(-a) * right) / (1 - mpmath.exp(-2 * gamma))
            total -= b * X * mpmath.sin(w * y) * scale
            term_bound = abs(b * X * scale)
        return float(y - mpmath.expm1(2 * a * y) / layer + total)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (0.5, 0.5), (0.3, 0.7), (0.9, 0.95), (0.98, 0.99), (0.99, 0.99), (0.5, 0.99), (0.02, 0.99),
        (0.03, 0.02), (0.01, 0.01), (0.99, 0.01), (0.995, 0.992),
    ],
)  # fmt: skip
def test_reference_agrees_with_the_exact_series(x, y):
    assert abs(reference(x, y).item() - series(x, y)) < 1e-11


def test_series_has_converged_in_terms_and_digits():
    assert series(0.95, 0.97) == series(0.95, 0.97, digits=120, tolerance=1e-30)


def test_reference_has_converged_in_the_degree():
    """To 1e-8 at the corners, where u is like r² log r, and to 1e-9 from 0.001 on."""
    x, y = spread_of_points()
    difference = np.abs(reference(x, y) - expand(solve(PDE.mu, 450), x, y))
    to_corner = np.hypot(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    assert difference.max() < 5e-9
    assert difference[to_corner > 1e-3].max() < 5e-10


def derivatives(function, at, radius):
    """The first and the second, by interpolation in 25 Chebyshev nodes within `radius`."""
    fit = Chebyshev.interpolate(function, 24, [at - radius, at + radius])
    return fit.deriv(1)(at), fit.deriv(2)(at)


@pytest.mark.parametrize(
    ("x", "y"),
    [(0.5, 0.5), (0.2, 0.8), (0.3, 0.31), (0.6, 0.985), (0.985, 0.4), (0.98, 0.97), (0.985, 0.985)],
)
def test_residual_of_the_reference_vanishes(x, y):
    """The terms of the equation reach 16; near the corners a second derivative is good to 1e-6."""
    u_x, u_xx = derivatives(lambda x: reference(x, y), x, 0.014)
    u_y, u_yy = derivatives(lambda y: reference(x, y), y, 0.014)
    jet = {(0,): u_x, (1,): u_y, (0, 0): u_xx, (1, 1): u_yy}
    u = Field("u", PDE.frame.axes, jet.__getitem__)
    assert np.abs(PDE.residuals(pinns.at(PDE, torch.zeros(2, 1)), u)).max() < 1e-7


def test_reference_is_zero_on_the_boundary_and_symmetric():
    x, y = points = grid_of(PDE, 21, 21)
    u = pinns.reference(PDE, points)
    on_boundary = (x * (1 - x) * y * (1 - y)) == 0
    assert torch.equal(u[on_boundary], torch.zeros(80, dtype=torch.float64))
    assert (u - pinns.reference(PDE, points.flip(0))).abs().max() < 1e-13


def test_bits_of_the_reference_do_not_depend_on_the_other_points():
    points = inside(PDE, 3000)
    u = pinns.reference(PDE, points)
    shuffled = torch.randperm(3000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pinns.reference(PDE, points[:, shuffled]), u[shuffled])
    for part in (slice(0, 1), slice(2999, 3000), slice(1234, 2345)):
        assert torch.equal(pinns.reference(PDE, points[:, part]), u[part])


def test_boundary_values_are_exactly_zero_for_any_network():
    x, y = points = grid_of(PDE, 21, 21)
    u = formed(PDE, points, noise)
    on_boundary = (x * (1 - x) * y * (1 - y)) == 0
    assert torch.equal(u[on_boundary].abs(), torch.zeros(80, dtype=torch.float64))
    assert u[~on_boundary].abs().min() > 0
