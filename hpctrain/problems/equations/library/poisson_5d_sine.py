"""Poisson's equation in five dimensions with a quarter of a wave along each.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827.
"""

import math
from functools import reduce

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


def _exact(at: At) -> Tensor:
    return reduce(torch.add, (torch.sin(math.pi / 2 * x) for x in at))


class Poisson5DSine(Equations):
    """Δu + (π²/4) u* = 0 in the unit cube, u = u* on the faces; u* = Σ_i sin(πx_i/2)."""

    name = "poisson-5d-sine"
    geometry = Box(**{f"x{i}": (0.0, 1.0) for i in range(1, 6)})
    conditions = (Dirichlet({"u": _exact}, points=2000),)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.laplacian + math.pi**2 / 4 * _exact(at)

    def reference(self, at: At) -> Tensor:
        return _exact(at)
