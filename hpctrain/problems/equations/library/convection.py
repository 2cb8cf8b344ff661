"""A wave that is carried round a circle many times.

Sources: A. S. Krishnapriyan et al., Characterizing possible failure modes in physics-informed
neural networks, NeurIPS 34 (2021); P. Rathore et al., arXiv 2402.01868; S. Wang et al., arXiv
2308.08468, for the speed 100.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Initial, Periodic
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


class Convection(Equations):
    """u_t + β u_x = 0, u(0, x) = sin x, periodic in x, β = 40; the solution is sin(x − βt)."""

    geometry = Box(t=(0.0, 1.0), x=(0.0, 2 * math.pi))
    speed = 40.0
    conditions = (Initial({"u": lambda at: torch.sin(at.x)}, exact=True), Periodic("x"))
    test_grid = (101, 257)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t + self.speed * u.x

    def reference(self, at: At) -> Tensor:
        return torch.sin(at.x - self.speed * at.t)


class ConvectionFast(Convection):
    """The same with β = 100."""

    speed = 100.0
