"""The wave equation between fixed ends, with two standing waves.

Source: S. Wang, X. Yu, P. Perdikaris, When and why PINNs fail to train: A neural tangent kernel
perspective, J. Comput. Phys. 449 (2022) 110768.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


def _waves(at: At) -> Tensor:
    return torch.sin(math.pi * at.x) + torch.sin(4 * math.pi * at.x) / 2


class Wave(Equations):
    """u_tt − 4 u_xx = 0, u(0, x) = sin πx + ½ sin 4πx, u_t(0, x) = 0, u = 0 at both ends.

    The solution is sin πx cos 2πt + ½ sin 4πx cos 8πt.
    """

    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    conditions = (
        Initial({"u": _waves, "u.t": 0.0}, exact=True),
        Dirichlet({"u": 0.0}, exact=True),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.tt - 4 * u.xx

    def reference(self, at: At) -> Tensor:
        t, x = math.pi * at.t, math.pi * at.x
        return torch.sin(x) * torch.cos(2 * t) + torch.sin(4 * x) * torch.cos(8 * t) / 2
