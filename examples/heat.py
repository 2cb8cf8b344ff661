"""The heat equation in two dimensions of space: an equation of one's own (docs/own_pde.md)."""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations import PDE, Jet


class Heat(PDE):
    """u_t = κ (u_xx + u_yy), u(0, x, y) = sin πx sin πy, u = 0 on the sides of the unit square."""

    name = "heat"
    coordinates = ("t", "x", "y")
    domain = ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    orders = (1, 2, 2)
    test_grid = (21, 41, 41)
    kappa = 0.05

    def lifting(self, points: Tensor) -> Tensor:
        _, x, y = points
        return torch.sin(math.pi * x) * torch.sin(math.pi * y)

    def distance(self, points: Tensor) -> Tensor:
        t, x, y = points
        return t * x * (1 - x) * y * (1 - y)

    def residual(self, points: Tensor, u: Jet) -> Tensor:
        return u.t - self.kappa * (u.xx + u.yy)

    def reference(self, points: Tensor) -> Tensor:
        t, _, _ = points
        return torch.exp(-2 * math.pi**2 * self.kappa * t) * self.lifting(points)
