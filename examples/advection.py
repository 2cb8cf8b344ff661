"""A family of solutions: the speed is an input of the network, and is chosen at prediction."""

import torch

from hpctrain.problems.equations import Box, Equations, Initial, Periodic


class Advection(Equations):
    """u_t + c u_x = 0, u(0, x) = sin 2πx, periodic in x, for all speeds c from 0.5 to 1.5."""

    geometry = Box(t=(0, 1), x=(0, 1))
    inputs = {"c": (0.5, 1.5)}
    conditions = (
        Initial({"u": lambda at: torch.sin(2 * torch.pi * at.x)}, exact=True),
        Periodic("x"),
    )

    def residuals(self, at, u):
        return u.t + at.c * u.x

    def reference(self, at):
        return torch.sin(2 * torch.pi * (at.x - at.c * at.t))
