"""The Allen-Cahn equation with two forming layers, and its solution by collocation in time.

Source: J. Shen, Efficient spectral-Galerkin method I, SIAM J. Sci. Comput. 15 (1994), 1489-1505,
for the basis in space.
"""

import math
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import Dirichlet, Initial
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
# Panels of time are halved towards t = 0 until they are shorter than this. At the corners the
# initial values ask for u_t = 0.0079 and the boundary values for 0: the layer which that causes
# there is 0.0079 t high and √(0.001 t) wide.
_FIRST_PANEL = 1e-6


class AllenCahn(Equations):
    """u_t − 0.001 u_xx − 5 (u − u³) = 0, u(0, x) = x² cos πx, u(t, ±1) = −1."""

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    diffusion = 0.001
    conditions = (
        Initial({"u": lambda at: at.x**2 * torch.cos(math.pi * at.x)}),
        Dirichlet({"u": -1.0}),
    )

    def ansatz(self, at: At) -> dict[str, tuple[Tensor, Tensor]]:
        return {"u": (at.x**2 * torch.cos(math.pi * at.x), at.t * (1 - at.x**2))}

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - self.diffusion * u.xx - 5 * (u - u**3)

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the bits for a point do not depend on the other points.

        The error is below 1e-10 next to the corners while t < 0.004, and 1e-12 after t = 0.1.
        """
        v = solve(self.diffusion)
        batches = at.all.double().split(_BATCH, dim=1)
        return torch.cat([to_tensor(v.at(*to_array(batch)) - 1) for batch in batches])


@lru_cache(maxsize=4)
def solve(
    epsilon: float, degree: int = 720, stages: int = 8, panels: int = 32, sweeps: int = 15
) -> Expansion:
    """The solution as v = u + 1, which is even in x and zero at x = ±1; kept for later calls.

    Galerkin's method in the basis φ, for which (φ_j', φ_k') = δ_jk, is M a' = −ε a + (φ, f(v)).
    The eigenvectors Q and eigenvalues m of M uncouple its linear part.

    Args:
        epsilon: the diffusion ε.
        degree: of the basis, even. The layers are about 10 √(ε/10) wide.
        stages: of Radau IIA.
        panels: of equal length in t; the first one is halved towards t = 0.
        sweeps: of the iteration on each panel; each reduces its error by 10 or more.
    """
    x, w = _half_gauss(degree)
    phi = even_basis(x, degree)
    m, Q = np.linalg.eigh((phi.T * w) @ phi)
    psi = phi @ Q
    project = (psi.T * w) / m[:, None]
    problem = Reaction(psi, project, epsilon / m, _reaction, slope=-2.5)
    times = grade_panels(panels, _FIRST_PANEL)
    nodes, found = problem.solve(x**2 * np.cos(math.pi * x) + 1, times, stages, sweeps)
    coefficients = np.array([(Q @ a).T for a in found])
    return Expansion(partial(even_basis, degree=degree), times, nodes, coefficients)


def even_basis(x: np.ndarray, degree: int) -> np.ndarray:
    """φ_k (N, n) at x (N,): (L_k − L_{k+2}) / √(4k + 6) for k = 0, 2, …, degree (Shen 1994)."""
    k = np.arange(0, degree + 1, 2)
    L = legendre.legvander(x, degree + 2)
    return np.ascontiguousarray((L[:, k] - L[:, k + 2]) / np.sqrt(4 * k + 6))


def _reaction(v: np.ndarray) -> np.ndarray:
    """5 (u − u³) for u = v − 1; its derivative lies between −10 and 5 where |u| <= 1."""
    return -5 * v * (v - 1) * (v - 2)


def _half_gauss(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes x > 0 and weights that integrate even functions over [−1, 1].

    The quadratures of M are exact. Those of f would need half as many nodes again, but what
    they lose lies beyond the degree that the solution fills.
    """
    x, w = legendre.leggauss(degree + 64)
    return x[x > 0], 2 * w[x > 0]
