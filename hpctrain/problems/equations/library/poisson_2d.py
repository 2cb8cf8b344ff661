"""Poisson's equation on the unit square with one smooth wave.

Source: F. Dangel, J. Müller, M. Zeinhofer, Kronecker-factored approximate curvature for
physics-informed neural networks, NeurIPS 2024, arXiv 2405.15603.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


class Poisson2D(Equations):
    """−Δu = 2π² sin πx sin πy, u = 0 on the boundary; u = sin πx sin πy."""

    name = "poisson-2d"
    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    conditions = (Dirichlet({"u": 0.0}, exact=True),)
    test_grid = (101, 101)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.xx + u.yy + 2 * math.pi**2 * self.reference(at)

    def reference(self, at: At) -> Tensor:
        return torch.sin(math.pi * at.x) * torch.sin(math.pi * at.y)
