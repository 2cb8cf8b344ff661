"""The Burgers equations in the plane, with a potential flow whose fronts steepen.

The velocities are the gradient of a potential, so that the Cole-Hopf transform solves them. Source:
J. D. Cole, Quart. Appl. Math. 9 (1951), 225-236. The domain is that of Z. Hao et al., PINNacle: A
comprehensive benchmark of physics-informed neural networks, NeurIPS 2024, arXiv 2306.08827, whose
own initial values are tables.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.problems.equations.conditions import Initial, Periodic
from hpctrain.problems.equations.conditions.base import Given
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

NU = 0.01
# Along each axis. 40 nodes leave an error of 1e-12, 50 round-off.
_NODES = 50
# Points a batch: batch × nodes² doubles, a few of them at a time, stay in the cache.
_BATCH = 64


def _start(along: str) -> Given:
    def velocity(at: At) -> Tensor:
        own = torch.sin(math.pi / 2 * getattr(at, along))
        return (own + torch.sin(math.pi / 2 * (at.x + at.y))) / 2

    return velocity


class Burgers2D(Equations):
    """u_t + u u_x + v u_y = ν Δu, v_t + u v_x + v v_y = ν Δv, ν = 0.01, periodic in x and y.

    u = (sin πx/2 + sin π(x + y)/2) / 2 and v = (sin πy/2 + sin π(x + y)/2) / 2 at t = 0, which is
    the gradient of Φ = −(cos πx/2 + cos πy/2 + cos π(x + y)/2) / π.
    """

    name = "burgers-2d"
    geometry = Box(t=(0.0, 1.0), x=(0.0, 4.0), y=(0.0, 4.0))
    fields = ("u", "v")
    conditions = (
        Initial({"u": _start("x"), "v": _start("y")}, exact=True),
        Periodic("x"),
        Periodic("y"),
    )
    test_grid = (11, 31, 31)

    def residuals(self, at: At, u: Field, v: Field) -> dict[str, Tensor]:
        return {
            "momentum_x": u.t + u * u.x + v * u.y - NU * u.laplacian,
            "momentum_y": v.t + u * v.x + v * v.y - NU * v.laplacian,
        }

    def reference(self, at: At) -> dict[str, Tensor]:
        pairs = [cole_hopf(*batch) for batch in at.all.split(_BATCH, dim=1)]
        u, v = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
        return {"u": u, "v": v}


def cole_hopf(t: Tensor, x: Tensor, y: Tensor, count: int = _NODES) -> tuple[Tensor, Tensor]:
    """The solution on the plane, (N,) each.

    With x + 2 √(νt) z_j and y + 2 √(νt) z_k in the place of x and y, Gauss-Hermite nodes z and
    weights w, it is the mean of ∇Φ by the weights w_j w_k exp(−Φ / 2ν). These are formed from
    their logarithms, less the largest one (softmax).

    Args:
        t, x, y: the points (N,), 0 <= t <= 1.
        count: of the nodes along each axis.
    """
    z, log_w = (to_tensor(each).to(x) for each in _make_nodes(count))
    reach = 2 * torch.sqrt(NU * t)[:, None] * z
    a, b = (math.pi / 2 * (each[:, None] + reach) for each in (x, y))
    cos_a, sin_a, cos_b, sin_b = torch.cos(a), torch.sin(a), torch.cos(b), torch.sin(b)
    cos_sum = cos_a[:, :, None] * cos_b[:, None] - sin_a[:, :, None] * sin_b[:, None]
    sin_sum = sin_a[:, :, None] * cos_b[:, None] + cos_a[:, :, None] * sin_b[:, None]
    scale = 1 / (2 * math.pi * NU)
    log_a, log_b = log_w + scale * cos_a, log_w + scale * cos_b
    logs = log_a[:, :, None] + log_b[:, None] + scale * cos_sum
    weights = torch.softmax(logs.flatten(1), dim=1)
    u = (weights * (sin_a[:, :, None] + sin_sum).flatten(1)).sum(dim=1) / 2
    v = (weights * (sin_b[:, None] + sin_sum).flatten(1)).sum(dim=1) / 2
    return u, v


@cache
def _make_nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """z (n,) and log w."""
    z, w = np.polynomial.hermite.hermgauss(count)
    return z, np.log(w)
