"""Two standing waves in a square for a hundred units of time.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, has such a case, whose stated solution does not solve its equation;
this one does.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


def _first(at: At) -> Tensor:
    return torch.sin(math.pi * at.x) * torch.sin(math.pi * at.y)


def _second(at: At) -> Tensor:
    return torch.sin(3 * math.pi * at.x) * torch.sin(2 * math.pi * at.y)


class WaveLong(Equations):
    """u_tt = u_xx + 2 u_yy, 0 <= t <= 100, u = 0 on the boundary, at rest at t = 0.

    u = sin πx sin πy cos √3 πt + sin 3πx sin 2πy cos √17 πt: 87 and 206 periods. The initial values
    are a term of the loss, for the sake of windows of time.
    """

    geometry = Box(t=(0.0, 100.0), x=(0.0, 1.0), y=(0.0, 1.0))
    conditions = (
        Initial({"u": lambda at: _first(at) + _second(at), "u.t": 0.0}, weight=100.0),
        Dirichlet({"u": 0.0}, exact=True),
    )
    test_grid = (501, 21, 21)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.tt - u.xx - 2 * u.yy

    def reference(self, at: At) -> Tensor:
        slow, fast = (math.sqrt(k) * math.pi * at.t for k in (3, 17))
        return _first(at) * torch.cos(slow) + _second(at) * torch.cos(fast)
