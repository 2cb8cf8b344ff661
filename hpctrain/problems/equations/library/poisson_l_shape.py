"""Laplace's equation on an L-shaped domain, whose solution is singular at the re-entrant corner.

Source: P. Grisvard, Elliptic Problems in Nonsmooth Domains, Pitman (1985), section 5.1.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Polygon

# Gives the corner an angle.
_TINY = 1e-300


def _exact(at: At) -> Tensor:
    """r^{2/3} sin 2θ/3, θ from 0 on the positive x-axis to 3π/2 on the negative y-axis.

    θ − 3π/4 is twice the arctangent of Y / (r + X), X and Y being along and across the bisector.
    """
    x, y = at
    X, Y = (y - x) / math.sqrt(2), -(x + y) / math.sqrt(2)
    square = x**2 + y**2
    half = torch.atan(Y / (torch.sqrt(square) + X + _TINY))
    return torch.exp(torch.log(square) / 3) * torch.sin(4 / 3 * half + math.pi / 2)


class PoissonLShape(Equations):
    """Δu = 0 on (−1, 1)² without its quarter x > 0 > y; u = r^{2/3} sin 2θ/3 on the boundary.

    That is the solution too, and as a lifting would leave nothing to learn: the boundary values are
    a term of the loss.
    """

    name = "poisson-l-shape"
    geometry = Polygon([(0, 0), (1, 0), (1, 1), (-1, 1), (-1, -1), (0, -1)])
    conditions = (Dirichlet({"u": _exact}, points=1000),)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.laplacian

    def reference(self, at: At) -> Tensor:
        return _exact(at)
