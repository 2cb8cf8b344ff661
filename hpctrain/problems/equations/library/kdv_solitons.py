"""Two solitons of the Korteweg-de Vries equation, of which the faster one overtakes the other.

Source: J. F. Urbán, P. Stefanou, J. A. Pons, Unveiling the optimization process of physics
informed neural networks, J. Comput. Phys. 523 (2025) 113656, arXiv 2405.04230.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial, Neumann
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

SPEEDS = (6.0, 2.0)
STARTS = (-2.0, 2.0)


def solve(t: Tensor, x: Tensor) -> Tensor:
    """With a_i = √c_i (x − c_i t − x_i) / 2 and r_i = √c_i,

        u = 2 (c₁ − c₂) [c₁ cosh² a₂ + c₂ sinh² a₁] / D²,
        D = (r₁ − r₂) cosh(a₁ + a₂) + (r₁ + r₂) cosh(a₁ − a₂).

    Both are divided by e^{2m}, m = |a₁| + |a₂|, so that nothing overflows.
    """
    (c1, c2), (r1, r2) = SPEEDS, map(math.sqrt, SPEEDS)
    a1, a2 = (r * (x - r**2 * t - start) / 2 for r, start in zip((r1, r2), STARTS, strict=True))
    m = a1.abs() + a2.abs()

    def weigh(a: Tensor, sign: int) -> Tensor:
        """cosh(a) e^{−m}, or with the sign −1 sinh(a) e^{−m}."""
        return (torch.exp(a - m) + sign * torch.exp(-a - m)) / 2

    above = c1 * weigh(a2, 1) ** 2 + c2 * weigh(a1, -1) ** 2
    below = (r1 - r2) * weigh(a1 + a2, 1) + (r1 + r2) * weigh(a1 - a2, 1)
    return 2 * (c1 - c2) * above / below**2


def _solitons(at: At) -> Tensor:
    return solve(at.t, at.x)


def _slope(at: At) -> Tensor:
    """u_x at points (N,)."""
    with torch.enable_grad():
        x = at.x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(solve(at.t.detach(), x).sum(), x)
    return slope


class KdvSolitons(Equations):
    """u_t + 6 u u_x + u_xxx = 0, 0 < x < 20, with u at both ends and u_x at x = 20.

    The solitons have the speeds 6 and 2 and start about x = −2 and x = 2.
    """

    geometry = Box(t=(0.0, 5.0), x=(0.0, 20.0))
    conditions = (
        Initial({"u": _solitons}),
        Dirichlet({"u": _solitons}),
        Neumann({"u": _slope}, on="x.high"),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t + 6 * u * u.x + u.xxx

    def reference(self, at: At) -> Tensor:
        return _solitons(at)
