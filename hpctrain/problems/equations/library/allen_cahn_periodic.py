"""The Allen-Cahn equation as most papers on neural networks have it, with periodic ends.

Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, J. Comput. Phys. 378 (2019), 686-707. Their
data are a solution by 512 modes, 1.2e-5 away from this one.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import AnyCondition, Initial, Neumann, Periodic
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods.collocation import (
    Expansion,
    Reaction,
    grade_panels,
)

# Points a batch: batch × degree doubles, a few of them at a time, stay in the cache.
_BATCH = 2048
# The first panel of time. From each end a layer 0.01 √t wide grows.
_FIRST_PANEL = 1e-9


class AllenCahnPeriodic(Equations):
    """u_t − 1e-4 u_xx + 5 (u³ − u) = 0, u(0, x) = x² cos πx, periodic in x.

    The initial values have slopes −2 and 2 at the ends. They are met by a term of the loss: a form
    u = G + t N would keep that kink for ever, and the solution has none once t > 0. It has the
    weight 100, as in Wang, Sankaran, Wang, Perdikaris, arXiv 2308.08468: with 1 training ends at a
    solution of other initial values.
    """

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    diffusion = 1e-4
    start = Initial({"u": lambda at: at.x**2 * torch.cos(math.pi * at.x)}, weight=100.0)
    conditions: Sequence[AnyCondition] = (start, Periodic("x"))

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - self.diffusion * u.xx + 5 * (u**3 - u)

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the bits for a point do not depend on the other points.

        The error is below 2e-8, relative to ‖u‖ 1e-9; at the ends it is 4e-7 while t < 1e-6.
        """
        u = solve(self.diffusion)
        batches = at.all.double().split(_BATCH, dim=1)
        return torch.cat([to_tensor(u.at(*to_array(batch))) for batch in batches])


class AllenCahnEven(AllenCahnPeriodic):
    """The same on half of the interval: the solution is even about x = 0 and, by its period, x = 1.

    So u_x = 0 at both ends, with which the equation has no other solution.
    """

    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    conditions = (AllenCahnPeriodic.start, Neumann({"u": 0.0}, on="x", exact=True))


@lru_cache(maxsize=4)
def solve(
    epsilon: float, degree: int = 800, stages: int = 8, panels: int = 32, sweeps: int = 12
) -> Expansion:
    """The solution, which is even in x, on 0 <= x <= 1 with u_x = 0 at both ends; kept.

    Galerkin's method meets u_x = 0 of itself. The basis has 1, and φ of mean 0 for which
    (φ_j', φ_k') = δ_jk: the eigenvectors and eigenvalues m of (φ_j, φ_k) uncouple the linear part.

    Args:
        epsilon: the diffusion.
        degree: of the polynomials.
        stages, panels, sweeps: see `methods.collocation`.
    """
    z, w = legendre.leggauss(degree + 64)
    x, w = (1 + z) / 2, w / 2
    phi = neumann_basis(x, degree)
    Q = np.eye(degree + 1)
    m, Q[1:, 1:] = np.linalg.eigh((phi[:, 1:].T * w) @ phi[:, 1:])
    sizes, rates = np.append(1.0, m), np.append(0.0, epsilon / m)
    psi = phi @ Q
    project = (psi.T * w) / sizes[:, None]
    problem = Reaction(psi, project, rates, _reaction, slope=-2.5)
    times = grade_panels(panels, _FIRST_PANEL)
    nodes, found = problem.solve(x**2 * np.cos(math.pi * x), times, stages, sweeps)
    coefficients = np.array([(Q @ a).T for a in found])
    return Expansion(partial(neumann_basis, degree=degree), times, nodes, coefficients)


def neumann_basis(x: np.ndarray, degree: int) -> np.ndarray:
    """1 and φ_k (N, degree + 1) at x (N,), even in x; φ_k' = √(2k + 1) L_k(2|x| − 1)."""
    L = legendre.legvander(2 * np.abs(x) - 1, degree)
    phi = L.copy()
    phi[:, 3:] -= L[:, 1:-2]
    k = np.arange(degree)
    phi[:, 1:] /= 2 * np.sqrt(2 * k + 1)
    return phi


def _reaction(u: np.ndarray) -> np.ndarray:
    """5 (u − u³); its derivative lies between −10 and 5 where |u| <= 1."""
    return 5 * u * (1 - u * u)
