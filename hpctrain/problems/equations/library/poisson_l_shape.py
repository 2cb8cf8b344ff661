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


def _exact(at: At) -> Tensor:
    """r^{2/3} sin 2θ/3, θ from 0 on the positive x-axis to 3π/2 on the negative y-axis."""
    x, y = at
    theta = torch.atan2(y, x)
    theta = torch.where(theta < 0, theta + 2 * math.pi, theta)
    return (x**2 + y**2) ** (1 / 3) * torch.sin(2 / 3 * theta)


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
