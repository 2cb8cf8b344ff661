"""A reaction that jumps between two halves of a cube with four round holes, by a known solution.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, for geometry and reaction; its source has no known solution.
"""

import math
from functools import reduce
from operator import sub

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Neumann
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Ball, Box, Geometry

# Centres and radii.
HOLES = (
    ((0.4, 0.3, 0.6), 0.2),
    ((0.6, 0.7, 0.6), 0.2),
    ((0.2, 0.8, 0.7), 0.1),
    ((0.6, 0.2, 0.3), 0.1),
)
_CUBE: Geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0), z=(0.0, 1.0))


def _exact(at: At) -> Tensor:
    x, y, z = (math.pi * each for each in at)
    return torch.cos(x) * torch.cos(y) * torch.cos(z)


def _flux(at: At) -> Tensor:
    """∂u/∂n."""
    x, y, z = (math.pi * each for each in at)
    along_x = at.normal.x * torch.sin(x) * torch.cos(y) * torch.cos(z)
    along_y = at.normal.y * torch.cos(x) * torch.sin(y) * torch.cos(z)
    along_z = at.normal.z * torch.cos(x) * torch.cos(y) * torch.sin(z)
    return -math.pi * (along_x + along_y + along_z)


class PoissonTwoMedia(Equations):
    """−Δu + k² u = f in the unit cube less four balls, k² = 64 where z < ½ and 100 above.

    f is made for u = cos πx cos πy cos πz, whose slope along the normal is given everywhere (0 on
    the cube). f jumps as k² u does, so that u is smooth.
    """

    geometry = reduce(sub, (Ball(*hole) for hole in HOLES), _CUBE)
    conditions = (
        Neumann({"u": 0.0}, on=("x", "y", "z"), points=1200),
        Neumann({"u": _flux}, on="sphere", points=1200),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        exact = _exact(at)
        square = torch.where(at.z < 0.5, 64.0, 100.0)
        return -u.laplacian + square * (u - exact) - 3 * math.pi**2 * exact

    def reference(self, at: At) -> Tensor:
        return _exact(at)
