"""Klein-Gordon's equation with the lifting that a later public code of the authors' group has.

Source: github.com/cruzas/ML_APTS. The lifting is the solution, x cos t, and the distance t (1 - x²)
leaves u_t free at t = 0: a network that vanishes is what is to be found.
"""

import torch
from torch import Tensor

from hpctrain.problems.equations import At, Box, Equations, Field


class LaterKleinGordon(Equations):
    """u_tt - u_xx + u² = f, u = x cos t + t (1 - x²) u_NN."""

    geometry = Box(t=(0.0, 12.0), x=(-1.0, 1.0))

    def ansatz(self, at: At) -> dict[str, tuple[Tensor, Tensor]]:
        t, x = at
        return {"u": (x * torch.cos(t), t * (1 - x**2))}

    def residuals(self, at: At, u: Field) -> Tensor:
        t, x = at
        return u.tt - u.xx + u**2 + x * torch.cos(t) - (x * torch.cos(t)) ** 2

    def reference(self, at: At) -> Tensor:
        return at.x * torch.cos(at.t)
