"""Helmholtz's equation with a solution that oscillates faster along one coordinate.

Source: S. Wang, Y. Teng, P. Perdikaris, Understanding and mitigating gradient flow pathologies in
physics-informed neural networks, SIAM J. Sci. Comput. 43 (2021), A3055-A3081.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


class Helmholtz(Equations):
    """Δu + k² u = (k² − π² (a₁² + a₂²)) u*, u = 0 on the boundary; a = (1, 4), k = 1.

    The solution is u* = sin a₁πx sin a₂πy. At k² = π² (m² + n²) / 4 it is not the only one.
    """

    geometry = Box(x=(-1.0, 1.0), y=(-1.0, 1.0))
    waves = (1, 4)
    k = 1.0
    conditions = (Dirichlet({"u": 0.0}, exact=True),)
    test_grid = (201, 201)

    def residuals(self, at: At, u: Field) -> Tensor:
        factor = self.k**2 - math.pi**2 * sum(a**2 for a in self.waves)
        return u.xx + u.yy + self.k**2 * u - factor * self.reference(at)

    def reference(self, at: At) -> Tensor:
        a1, a2 = self.waves
        return torch.sin(a1 * math.pi * at.x) * torch.sin(a2 * math.pi * at.y)
