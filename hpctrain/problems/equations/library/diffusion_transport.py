"""Diffusion and transport across a square towards two boundary layers, solved by Galerkin.

Sources: J. Shen, Efficient spectral-Galerkin method I, SIAM J. Sci. Comput. 15 (1994), 1489-1505,
for the basis; R. H. Bartels, G. W. Stewart, Comm. ACM 15 (1972), 820-826, for the matrix equation.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

# Points a batch: batch × degree doubles, a few of them at a time, stay in the cache.
_BATCH = 2048
# Degree 60 resolves the layers; the corners, where u behaves like r² log r, take the rest.
_DEGREE = 300


class DiffusionTransport(Equations):
    """−∇·(μ∇u) + b·∇u = 1 on the unit square, u = 0 on its boundary; μ = 0.01, b = (1, 1).

    The layers at x = 1 and at y = 1 are as wide as μ.
    """

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    mu = 0.01
    conditions = (Dirichlet({"u": 0.0}),)

    def ansatz(self, at: At) -> dict[str, tuple[float, Tensor]]:
        x, y = at
        return {"u": (0.0, x * (1 - x) * y * (1 - y))}

    def residuals(self, at: At, u: Field) -> Tensor:
        return -self.mu * (u.xx + u.yy) + u.x + u.y - 1

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the bits for a point do not depend on the other points.

        The error is below 5e-9 next to the corners, 5e-10 beyond 0.001 of them and 1e-11 amid the
        square.
        """
        V = solve(self.mu, _DEGREE)
        batches = at.all.double().split(_BATCH, dim=1)
        return torch.cat([to_tensor(expand(V, *to_array(batch))) for batch in batches])


@lru_cache(maxsize=4)
def solve(mu: float, degree: int) -> np.ndarray:
    """V (n, n) of u(x, y) = Σ V_jk φ_j(x) φ_k(y); kept for later calls.

    With the matrices of one dimension, K_jk = μ (φ_j', φ_k') + (φ_j, φ_k'), M_jk = (φ_j, φ_k) and
    f_j = (φ_j, 1), Galerkin's method is K V M + M V Kᵀ = f fᵀ. In this basis K is well
    conditioned (M is not), and dividing by it leaves a Sylvester equation:

        B V + V Bᵀ = g gᵀ,    B = K⁻¹M,  g = K⁻¹f.

    Args:
        mu: the diffusion μ.
        degree: of the polynomials, n + 1.
    """
    z, w = legendre.leggauss(degree + 2)
    L = legendre.legvander(z, degree)
    k = np.arange(degree - 1)
    phi, slope = basis((1 + z) / 2, degree), -L[:, 1:-1] * np.sqrt(4 * k + 6)
    w = w / 2
    K = ((mu * slope + phi).T * w) @ slope
    M = (phi.T * w) @ phi
    f = phi.T @ w
    B, g = np.linalg.solve(K, M), np.linalg.solve(K, f)
    from scipy.linalg import solve_sylvester  # of this reference alone

    return solve_sylvester(B, B.T, np.outer(g, g))


def basis(x: np.ndarray, degree: int) -> np.ndarray:
    """φ_k (N, n) at x (N,) in [0, 1]: (L_k − L_{k+2}) / √(4k + 6), k = 0 … degree − 2."""
    k = np.arange(degree - 1)
    L = legendre.legvander(2 * x - 1, degree)
    return np.ascontiguousarray((L[:, :-2] - L[:, 2:]) / np.sqrt(4 * k + 6))


def expand(V: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Σ V_jk φ_j(x) φ_k(y) (N,) at x, y (N,); the order of all sums is fixed, so no BLAS here."""
    columns, column = np.unique(x, return_inverse=True)
    rows, row = np.unique(y, return_inverse=True)
    degree = len(V) + 1
    in_x, in_y = basis(columns, degree), basis(rows, degree)
    a = np.zeros_like(in_x)
    for j in range(len(V)):
        a += in_x[:, j, None] * V[j]
    return (a[column] * in_y[row]).sum(axis=1)
