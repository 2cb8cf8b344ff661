"""Waves in a square where their speed varies, reflected by its sides.

Sources: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, whose speed is a table and whose first hill has a slope at a side;
H. Tal-Ezer, R. Kosloff, J. Chem. Phys. 81 (1984), 3967-3971, for Chebyshev's series of a
propagator.
"""

import math

import numpy as np
import torch
from scipy.special import jv
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import Initial, Neumann
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods.plane import Cosines, evaluate

END = 5.0
# The largest c.
_FASTEST = 1.5
# 64 leave an error of 6e-7, relative to ‖u‖, 96 of 4e-11.
_WAVES = 96
# That are found together.
_TIMES = 32


def _hill(at: At) -> Tensor:
    return torch.exp(-50 * ((at.x + 0.3) ** 2 + at.y**2))


class WaveVariable(Equations):
    """u_tt = c Δu, c = 1 + ½ cos 2πx cos 2πy on (−1, 1)², ∂u/∂n = 0 on the sides, 0 <= t <= 5.

    u = exp(−50 ((x + 0.3)² + y²)) at t = 0, which is 2e-11 at the nearest side, and u_t = 0. These
    are a term of the loss, for the sake of windows of time.
    """

    geometry = Box(t=(0.0, END), x=(-1.0, 1.0), y=(-1.0, 1.0))
    conditions = (
        Initial({"u": _hill, "u.t": 0.0}, weight=100.0),
        Neumann({"u": 0.0}, on=("x", "y")),
    )
    test_grid = (21, 51, 51)

    def residuals(self, at: At, u: Field) -> Tensor:
        c = 1 + torch.cos(2 * math.pi * at.x) * torch.cos(2 * math.pi * at.y) / 2
        return u.tt - c * u.laplacian

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 1e-10."""
        return find_values(at.all, _WAVES)


def find_values(points: Tensor, waves: int) -> Tensor:
    """The solution (N,) at points (3, N), by so many waves along each coordinate."""
    t, x, y = to_array(points.double())
    space, found, times = Cosines(waves, -1.0, 2.0), np.zeros_like(t), np.unique(t)
    for first in range(0, len(times), _TIMES):
        some = times[first : first + _TIMES]
        for time, state in zip(some, solve(some, space), strict=True):
            now = t == time
            found[now] = evaluate(space, state, x[now], y[now])
    return to_tensor(found)


def solve(t: np.ndarray, space: Cosines) -> np.ndarray:
    """Coefficients (T, n, n) of the solution at times (T,).

    With B u = −c Δu, whose eigenvalues lie in [0, R²], and Y = 2B/R² − 1,

        u(t) = cos(t √B) u(0) = (J₀(tR) + 2 Σ_k (−1)^k J_2k(tR) T_k(Y)) u(0).
    """
    x, y = space.nodes
    c = 1 + np.cos(2 * math.pi * x) * np.cos(2 * math.pi * y) / 2
    square = -_FASTEST * space.laplacian.min()
    R = math.sqrt(square)
    reach = END * R
    count = math.ceil((reach + 20 * reach ** (1 / 3)) / 2)

    def multiply(u: np.ndarray) -> np.ndarray:
        """Y u."""
        return -2 / square * c * space.values(space.laplacian * space.transform(u)) - u

    before = np.exp(-50 * ((x + 0.3) ** 2 + y**2))
    now = multiply(before)
    u = jv(0, t * R)[:, None, None] * before
    for k in range(1, count):
        u += 2 * (-1) ** k * jv(2 * k, t * R)[:, None, None] * now
        before, now = now, 2 * multiply(now) - before
    return space.transform(u)
