"""Heat that is conducted 25,000 times better along y than along x.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


def _wave(at: At) -> Tensor:
    return torch.sin(20 * math.pi * at.x) * torch.sin(math.pi * at.y)


class HeatMultiscale(Equations):
    """u_t − u_xx / (500π)² − u_yy / π² = 0, u(0, x, y) = sin 20πx sin πy, u = 0 on the boundary.

    The solution is sin 20πx sin πy e^{−1.0016 t}.
    """

    geometry = Box(t=(0.0, 5.0), x=(0.0, 1.0), y=(0.0, 1.0))
    conditions = (Initial({"u": _wave}, exact=True), Dirichlet({"u": 0.0}, exact=True))
    test_grid = (21, 161, 21)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - u.xx / (500 * math.pi) ** 2 - u.yy / math.pi**2

    def reference(self, at: At) -> Tensor:
        return torch.exp(-1.0016 * at.t) * _wave(at)
