"""The heat equation in two dimensions of space: equations of one's own (docs/own_equations.md)."""

import math

import torch

from hpctrain.problems.equations import Box, Dirichlet, Equations, Initial


class Heat(Equations):
    """u_t = κ Δu, u(0, x, y) = sin πx sin πy, u = 0 on the sides of the unit square."""

    geometry = Box(t=(0, 1), x=(0, 1), y=(0, 1))
    kappa = 0.05
    conditions = (
        Initial(
            {"u": lambda at: torch.sin(math.pi * at.x) * torch.sin(math.pi * at.y)}, exact=True
        ),
        Dirichlet({"u": 0.0}, exact=True),
    )
    test_grid = (21, 41, 41)

    def residuals(self, at, u):
        return u.t - self.kappa * u.laplacian

    def reference(self, at):
        decay = torch.exp(-2 * math.pi**2 * self.kappa * at.t)
        return decay * torch.sin(math.pi * at.x) * torch.sin(math.pi * at.y)
