"""Steady flow behind a grid: an exact solution of the Navier-Stokes equations.

Source: L. I. G. Kovasznay, Laminar flow behind a two-dimensional grid, Math. Proc. Cambridge
Philos. Soc. 44 (1948), 58-62.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

REYNOLDS = 20.0
LAMBDA = REYNOLDS / 2 - math.sqrt(REYNOLDS**2 / 4 + 4 * math.pi**2)


def u(at: At) -> Tensor:
    """Velocity along x."""
    return 1 - torch.exp(LAMBDA * at.x) * torch.cos(2 * math.pi * at.y)


def v(at: At) -> Tensor:
    """Velocity along y."""
    return LAMBDA / (2 * math.pi) * torch.exp(LAMBDA * at.x) * torch.sin(2 * math.pi * at.y)


def p(at: At) -> Tensor:
    """Pressure."""
    return (1 - torch.exp(2 * LAMBDA * at.x)) / 2


class Kovasznay(Equations):
    """u·∇u + ∇p = Δu / Re, ∇·u = 0, Re = 20; velocities on the boundary, pressure at x = 1.

    The boundary values are terms of the loss: lifted into the square by their own formulas they
    would be the solution.
    """

    geometry = Box(x=(-0.5, 1.0), y=(-0.5, 1.5))
    fields = ("u", "v", "p")
    conditions = (
        Dirichlet({"u": u, "v": v}, points=400),
        Dirichlet({"p": p}, on="x.high", points=100),
    )
    test_grid = (151, 201)

    def residuals(self, at: At, u: Field, v: Field, p: Field) -> dict[str, Tensor]:
        return {
            "momentum_x": u * u.x + v * u.y + p.x - (u.xx + u.yy) / REYNOLDS,
            "momentum_y": u * v.x + v * v.y + p.y - (v.xx + v.yy) / REYNOLDS,
            "continuity": u.x + v.y,
        }

    def reference(self, at: At) -> dict[str, Tensor]:
        return {"u": u(at), "v": v(at), "p": p(at)}
