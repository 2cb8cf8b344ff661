"""A nonlinear equation of Poisson's kind, Δu = eᵘ + f.

Source: J. F. Urbán, P. Stefanou, J. A. Pons, Unveiling the optimization process of physics
informed neural networks, J. Comput. Phys. 523 (2025) 113656, arXiv 2405.04230.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


def _exact(at: At) -> Tensor:
    return 1 + torch.sin(4 * math.pi * at.x) * torch.cos(4 * math.pi * at.y)


class PoissonExponential(Equations):
    """Δu − eᵘ = f in the unit square, u = u* on its boundary; u* = 1 + sin 4πx cos 4πy.

    The residual is divided by 32π², the factor in f, to be of the size of the boundary's.
    """

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    conditions = (Dirichlet({"u": _exact}, points=500),)
    test_grid = (201, 201)

    def residuals(self, at: At, u: Field) -> Tensor:
        exact = _exact(at)
        factor = 32 * math.pi**2
        f = -factor * (exact - 1) - torch.exp(exact)
        return (u.laplacian - u.exp() - f) / factor

    def reference(self, at: At) -> Tensor:
        return _exact(at)
