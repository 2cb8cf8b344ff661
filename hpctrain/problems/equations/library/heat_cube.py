"""Heat in the unit interval, and in the unit cube of four dimensions.

Source: F. Dangel, J. Müller, M. Zeinhofer, Kronecker-factored approximate curvature for
physics-informed neural networks, NeurIPS 2024, arXiv 2405.15603.
"""

import math
from functools import reduce

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


class Heat1D(Equations):
    """u_t = u_xx / 4, u(0, x) = sin πx, u = 0 at both ends; u = exp(−π²t/4) sin πx."""

    name = "heat-1d"
    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    conditions = (
        Initial({"u": lambda at: torch.sin(math.pi * at.x)}, exact=True),
        Dirichlet({"u": 0.0}, exact=True),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - u.xx / 4

    def reference(self, at: At) -> Tensor:
        return torch.exp(-(math.pi**2) / 4 * at.t) * torch.sin(math.pi * at.x)


def _sum_of_sines(at: At) -> Tensor:
    """Σ_i sin 2x_i."""
    return reduce(torch.add, (torch.sin(2 * x) for x in at.all[1:]))


class Heat4D(Equations):
    """u_t = Δu / 4 in four dimensions, u = u* at first and on the faces; u* = e^{−t} Σ_i sin 2x_i.

    The values on the faces are terms of the loss: lifted by their own formula they would be u*.
    """

    name = "heat-4d"
    geometry = Box(t=(0.0, 1.0), **{f"x{i}": (0.0, 1.0) for i in range(1, 5)})
    conditions = (
        Initial({"u": _sum_of_sines}, points=1000),
        Dirichlet({"u": lambda at: torch.exp(-at.t) * _sum_of_sines(at)}, points=2000),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - u.laplacian / 4

    def reference(self, at: At) -> Tensor:
        return torch.exp(-at.t) * _sum_of_sines(at)
