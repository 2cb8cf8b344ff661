"""Heat in a square whose conductivity varies, by a known solution.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, whose conductivity is a table.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


class HeatVariable(Equations):
    """u_t − ∇·(a ∇u) = f, a = exp(sin 2πx sin 2πy), u = 0 at t = 0 and on the boundary.

    f is made for u = sin(πt/5) sin πx sin 5πy.
    """

    geometry = Box(t=(0.0, 5.0), x=(0.0, 1.0), y=(0.0, 1.0))
    conditions = (Initial({"u": 0.0}, exact=True), Dirichlet({"u": 0.0}, exact=True))

    def residuals(self, at: At, u: Field) -> Tensor:
        x, y = math.pi * at.x, math.pi * at.y
        log_a = torch.sin(2 * x) * torch.sin(2 * y)
        a = torch.exp(log_a)
        ax = 2 * math.pi * torch.cos(2 * x) * torch.sin(2 * y) * a
        ay = 2 * math.pi * torch.sin(2 * x) * torch.cos(2 * y) * a

        t = math.pi / 5 * at.t
        exact = torch.sin(t) * torch.sin(x) * torch.sin(5 * y)
        along_t = math.pi / 5 * torch.cos(t) * torch.sin(x) * torch.sin(5 * y)
        along_x = math.pi * torch.sin(t) * torch.cos(x) * torch.sin(5 * y)
        along_y = 5 * math.pi * torch.sin(t) * torch.sin(x) * torch.cos(5 * y)
        f = along_t + 26 * math.pi**2 * a * exact - ax * along_x - ay * along_y
        return u.t - a * u.laplacian - ax * u.x - ay * u.y - f

    def reference(self, at: At) -> Tensor:
        t, x, y = math.pi / 5 * at.t, math.pi * at.x, math.pi * at.y
        return torch.sin(t) * torch.sin(x) * torch.sin(5 * y)
