"""The viscous Burgers equation with a layer at x = 0, and its solution by the Cole-Hopf transform.

Sources: C. Basdevant et al., Spectral and finite difference solutions of the Burgers equation,
Computers & Fluids 14 (1986), 23-41; J. D. Cole, Quart. Appl. Math. 9 (1951), 225-236.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

# 80 nodes leave an error of 1e-13, 100 nodes round-off; up to 360 no weight underflows.
_NODES = 120
# Points a batch: batch × nodes doubles, a few of them at a time, stay in the cache.
_BATCH = 2048


class Burgers(Equations):
    """u_t + u u_x = ν u_xx, ν = 0.01/π, u(0, x) = −sin πx, u(t, ±1) = 0."""

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    nu = 0.01 / math.pi
    conditions = (
        Initial({"u": lambda at: -torch.sin(math.pi * at.x)}),
        Dirichlet({"u": 0.0}),
    )

    def ansatz(self, at: At) -> dict[str, tuple[Tensor, Tensor]]:
        return {"u": (-torch.sin(math.pi * at.x), at.t * (1 - at.x**2))}

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t + u * u.x - self.nu * u.xx

    def reference(self, at: At) -> Tensor:
        batches = at.all.split(_BATCH, dim=1)
        return torch.cat([cole_hopf(t, x, self.nu) for t, x in batches])


class BurgersViscous(Burgers):
    """The same with ν = 0.01, whose layer is π times as wide.

    Source: DSGNAR, arXiv 2607.02194, where it stands beside figures for 0.01/π.
    """

    nu = 0.01
    test_grid = (100, 1024)


class BurgersOdd(Burgers):
    """Burgers' equation on half of the interval: the solution is odd about x = 0.

    Initial values, equation and values at the ends change their sign with x and u, so that u = 0 at
    x = 0, with which the equation has no other solution. The layer is at an end.
    """

    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))

    def ansatz(self, at: At) -> dict[str, tuple[Tensor, Tensor]]:
        return {"u": (-torch.sin(math.pi * at.x), at.t * at.x * (1 - at.x))}


class BurgersViscousOdd(BurgersOdd):
    """The same with ν = 0.01."""

    nu = BurgersViscous.nu
    test_grid = (100, 512)


def cole_hopf(t: Tensor, x: Tensor, nu: float | Tensor) -> Tensor:
    """The solution of u_t + u u_x = ν u_xx on the line with u(0, x) = −sin πx.

    With y = x − 2 √(νt) z, which Gauss-Hermite nodes z_k and weights w_k integrate against e^{−z²},

        u = −∫ sin(πy) f(y) e^{−z²} dz / ∫ f(y) e^{−z²} dz,    f(y) = exp(−cos(πy) / (2πν)).

    f spans e^{±50} for ν = 0.01/π, so the normalised weights w_k f(y_k) are formed from their
    logarithms, less the largest one (softmax). At t = 0 all y are x, and the formula stays exact.

    Args:
        t, x: the points (N,), 0 <= t <= 1.
        nu: viscosity, one or (N,); the fixed number of nodes suits 0.005/π to 0.1/π.
    """
    z, w = (to_tensor(a).to(x) for a in _make_nodes())
    y = x[:, None] - 2 * torch.sqrt(nu * t)[:, None] * z
    own = nu[:, None] if isinstance(nu, Tensor) else nu
    weights = torch.softmax(w.log() - torch.cos(math.pi * y) / (2 * math.pi * own), dim=1)
    return -(weights * torch.sin(math.pi * y)).sum(dim=1)


@cache
def _make_nodes() -> tuple[np.ndarray, np.ndarray]:
    """z_k and w_k, once for all batches: they take as long as half of a batch."""
    z, w = np.polynomial.hermite.hermgauss(_NODES)
    return z, w
