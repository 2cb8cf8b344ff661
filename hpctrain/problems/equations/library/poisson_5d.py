"""Poisson's equation in the unit cube of five dimensions.

Source: F. Dangel, J. Müller, M. Zeinhofer, Kronecker-factored approximate curvature for
physics-informed neural networks, NeurIPS 2024, arXiv 2405.15603.
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
    return reduce(torch.add, (torch.cos(math.pi * x) for x in at))


class Poisson5D(Equations):
    """−Δu = π² u*, u = u* on the faces; the solution is u* = Σ_i cos πx_i."""

    name = "poisson-5d"
    geometry = Box(**{f"x{i}": (0.0, 1.0) for i in range(1, 6)})
    conditions = (Dirichlet({"u": _exact}, points=2000),)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.laplacian + math.pi**2 * _exact(at)

    def reference(self, at: At) -> Tensor:
        return _exact(at)
