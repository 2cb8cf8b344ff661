"""The linear Poisson-Boltzmann equation in a square with four round holes.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827.
"""

import math
from functools import lru_cache, reduce
from operator import sub

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box, Disk, Geometry
from hpctrain.problems.equations.library.methods import trefftz

KAPPA = 8.0
ON_SQUARE, ON_CIRCLES = 0.2, 1.0
HOLES = (((0.5, 0.5), 0.2), ((0.4, -0.4), 0.4), ((-0.2, -0.7), 0.1), ((-0.6, 0.5), 0.3))
_SQUARE: Geometry = Box(x=(-1.0, 1.0), y=(-1.0, 1.0))
# Terms of the series that meets the corners, and points a batch.
_TERMS, _BATCH = 1000, 512


class PoissonBoltzmann(Equations):
    """−Δu + 64 u = 10 (17 + x² + y²) sin πx sin 4πy in (−1, 1)² less four disks.

    u = 0.2 on the square and 1 on the circles.
    """

    geometry = reduce(sub, (Disk(*hole) for hole in HOLES), _SQUARE)
    conditions = (
        Dirichlet({"u": ON_SQUARE}, on=("x", "y")),
        Dirichlet({"u": ON_CIRCLES}, on="circle"),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        source = 10 * (17 + at.x**2 + at.y**2)
        source = source * torch.sin(math.pi * at.x) * torch.sin(4 * math.pi * at.y)
        return -u.laplacian + KAPPA**2 * u - source

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 1e-7, but for the corners 1e-8."""
        batches = [to_array(batch) for batch in at.all.double().split(_BATCH, dim=1)]
        without = torch.cat([to_tensor(solve_square(*batch)) for batch in batches])
        return without + solve().at(at.all)


@lru_cache(maxsize=2)
def solve(regular: int = 100, of_hole: int = 36) -> trefftz.Expansion:
    """What the holes add to `solve_square`, by functions up to these orders; kept."""
    circles = trefftz.place_points(1.0, HOLES)[1:]
    values: list[float | np.ndarray] = [0.0]
    values += [ON_CIRCLES - solve_square(*circle) for circle in circles]
    return trefftz.solve(1.0, HOLES, KAPPA, (regular, of_hole), values)


def solve_square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The solution (N,) in the square without holes, at points (N,).

    It is (α (x² + y²) + γ) sin πx sin 4πy + β x cos πx sin 4πy + β' y sin πx cos 4πy, which has the
    source term, with two more products that are 0 on two sides and cancel it on the others; and
    0.2 times the solution of Δu = κ² u that is 1 on the square.
    """
    kx, ky = math.pi, 4 * math.pi
    rate = kx**2 + ky**2 + KAPPA**2
    alpha = 10 / rate
    beta_x, beta_y = 4 * kx * alpha / rate, 4 * ky * alpha / rate
    gamma = (170 + 4 * alpha - 2 * kx * beta_x - 2 * ky * beta_y) / rate
    sx, cx, sy, cy = np.sin(kx * x), np.cos(kx * x), np.sin(ky * y), np.cos(ky * y)
    made = (alpha * (x**2 + y**2) + gamma) * sx * sy + beta_x * x * cx * sy + beta_y * y * sx * cy
    # cos πx is −1 at both ends, cos 4πy is 1.
    made += beta_x * _sinh_ratio(math.hypot(KAPPA, ky), x) * sy
    made -= beta_y * _sinh_ratio(math.hypot(KAPPA, kx), y) * sx
    return made + ON_SQUARE * _one_on_square(x, y)


def _sinh_ratio(rate: float, x: np.ndarray) -> np.ndarray:
    """sinh(m x) / sinh(m)."""
    return (np.exp(rate * (x - 1)) - np.exp(-rate * (x + 1))) / (1 - math.exp(-2 * rate))


def _one_on_square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The solution of Δu = κ² u that is 1 on the square, with terms r² log r at its corners.

    cosh κs / cosh κ + Σ_q c_q cos(qs) cosh(μ_q r) / cosh μ_q, q = π/2, 3π/2, …, μ_q² = κ² + q², r
    being that of |x| and |y| which is further from 1.
    """
    near, far = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    q = math.pi / 2 * (2 * np.arange(_TERMS) + 1)
    mu = np.hypot(KAPPA, q)
    c = 2 * np.sin(q) * KAPPA**2 / (q * mu**2)
    terms = c * np.cos(q * near[:, None]) * _cosh_ratio(mu, far[:, None])
    return _cosh_ratio(KAPPA, near) + terms.sum(axis=1)


def _cosh_ratio(rate: np.ndarray | float, x: np.ndarray) -> np.ndarray:
    """cosh(m x) / cosh(m)."""
    return (np.exp(rate * (x - 1)) + np.exp(-rate * (x + 1))) / (1 + np.exp(-2 * rate))
