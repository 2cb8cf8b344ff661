"""Heat in the unit ball of five dimensions, whose flux through the boundary is given.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827.
"""

from functools import reduce

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Initial, Neumann
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Ball, Interval

_D = 5
_AXES = tuple(f"x{i}" for i in range(1, _D + 1))


def _square(at: At) -> Tensor:
    """|x|²."""
    return reduce(torch.add, (x**2 for x in at.all[1:]))


class HeatBall(Equations):
    """u_t = Δu/d − |x|²/d exp(|x|²/2 + t), |x| < 1, d = 5, ∂u/∂n = exp(½ + t) at |x| = 1.

    The solution is exp(|x|²/2 + t).
    """

    geometry = Interval(t=(0.0, 1.0)) * Ball((0.0,) * _D, 1.0, _AXES)
    conditions = (
        Initial({"u": lambda at: torch.exp(_square(at) / 2)}, exact=True),
        Neumann({"u": lambda at: torch.exp(0.5 + at.t)}, on="sphere", points=2000),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - (u.laplacian - _square(at) * self.reference(at)) / _D

    def reference(self, at: At) -> Tensor:
        return torch.exp(_square(at) / 2 + at.t)
