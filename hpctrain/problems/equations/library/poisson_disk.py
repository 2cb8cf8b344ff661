"""Poisson's equation on the unit disk, with a source made for a known solution."""

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Disk


class PoissonDisk(Equations):
    """−Δu = (3 + 4x + r²) eˣ for r < 1, u = 0 at r = 1; u = (1 − r²) eˣ."""

    geometry = Disk((0.0, 0.0), 1.0)
    conditions = (Dirichlet({"u": 0.0}, exact=True),)

    def residuals(self, at: At, u: Field) -> Tensor:
        x, y = at
        return u.laplacian + (3 + 4 * x + x**2 + y**2) * torch.exp(x)

    def reference(self, at: At) -> Tensor:
        x, y = at
        return (1 - x**2 - y**2) * torch.exp(x)
