"""Heat in a square plate with a round hole: insulated, cooled, and held ends with known data."""

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial, Neumann, Robin
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box, Disk


def _exact(at: At) -> Tensor:
    return torch.exp(-2 * at.t) * torch.sin(at.x + 0.5) * torch.cos(at.y)


def _flux(at: At) -> Tensor:
    """∂u/∂n."""
    slope_x = torch.cos(at.x + 0.5) * torch.cos(at.y)
    slope_y = -torch.sin(at.x + 0.5) * torch.sin(at.y)
    return torch.exp(-2 * at.t) * (at.normal.x * slope_x + at.normal.y * slope_y)


class HeatPlate(Equations):
    """u_t = Δu on (−1, 1)² without the disk r < 0.4; u = e^{−2t} sin(x + ½) cos y.

    The flux is given on the circle, u + ∂u/∂n at x = ±1, and u at y = ±1.
    """

    geometry = Box(t=(0.0, 1.0)) * (Box(x=(-1.0, 1.0), y=(-1.0, 1.0)) - Disk((0.0, 0.0), 0.4))
    conditions = (
        Initial({"u": lambda at: torch.sin(at.x + 0.5) * torch.cos(at.y)}, exact=True),
        Neumann({"u": _flux}, on="circle", points=500),
        Robin("u", equals=lambda at: _exact(at) + _flux(at), on="x", points=500),
        Dirichlet({"u": _exact}, on="y", points=500),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - u.laplacian

    def reference(self, at: At) -> Tensor:
        return _exact(at)
