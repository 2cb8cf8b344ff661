"""The Allen-Cahn equation with two forming layers, and its solution by collocation in time.

Sources: J. Shen, Efficient spectral-Galerkin method I, SIAM J. Sci. Comput. 15 (1994), 1489-1505,
for the basis in space; E. Hairer, G. Wanner, Solving Ordinary Differential Equations II (1996),
section IV.5, for Radau IIA in time.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

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


@dataclass(frozen=True)
class Expansion:
    """v(t, x) = Σ_k a_k(t) φ_k(x), each a_k a polynomial in t on every panel.

    Attributes:
        panels: their ends (P + 1,), increasing.
        nodes: of the polynomials, in a panel of length 1 (s + 1,), both ends included.
        coefficients: a_k at the nodes (P, s + 1, n).
    """

    panels: np.ndarray
    nodes: np.ndarray
    coefficients: np.ndarray

    def at(self, t: np.ndarray, x: np.ndarray) -> np.ndarray:
        """v (N,) at points t, x (N,); the order of all sums is fixed, so no BLAS here."""
        times, row_of_time = np.unique(t, return_inverse=True)
        places, row_of_place = np.unique(x, return_inverse=True)
        a = self._coefficients_at(times)
        phi = even_basis(places, 2 * a.shape[1] - 2)
        return (a[row_of_time] * phi[row_of_place]).sum(axis=1)

    def _coefficients_at(self, t: np.ndarray) -> np.ndarray:
        """a (N, n) at the times t (N,), by Lagrange's formula."""
        panel = np.searchsorted(self.panels[1:-1], t)
        start, end = self.panels[panel], self.panels[panel + 1]
        c, tau = self.nodes, (t - start) / (end - start)
        a = np.zeros((len(t), self.coefficients.shape[2]))
        for j in range(len(c)):
            others = np.delete(c, j)
            weight = np.prod((tau[:, None] - others) / (c[j] - others), axis=1)
            a += weight[:, None] * self.coefficients[panel, j]
        return a


@lru_cache(maxsize=4)
def solve(
    epsilon: float, degree: int = 720, stages: int = 8, panels: int = 32, sweeps: int = 15
) -> Expansion:
    """The solution as v = u + 1, which is even in x and zero at x = ±1; kept for later calls.

    Galerkin's method in the basis φ, for which (φ_j', φ_k') = δ_jk, is M a' = −ε a + (φ, f(v)).
    The eigenvectors Q and eigenvalues m of M uncouple its linear part. Collocation on a panel of
    length h is a = a₀ + h A a' at the nodes, and with a constant c amid the range of f' a sweep is

        a_k ← (I − h (λ_k + c) A)⁻¹ (a₀_k + h A (f_k − c a_k)),    λ_k = −ε / m_k.

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
    nodes, A = radau(stages)
    c = -2.5
    times = _graded(panels)
    a = np.tile((project @ (x**2 * np.cos(math.pi * x) + 1))[:, None], stages)
    coefficients = []
    for h in np.diff(times):
        a0 = a[:, -1:]
        inverse = np.linalg.inv(np.eye(stages) - h * (c - epsilon / m)[:, None, None] * A)
        for _ in range(sweeps):
            known = a0 + h * (project @ _reaction(psi @ a) - c * a) @ A.T
            a = (inverse @ known[:, :, None])[:, :, 0]
        coefficients.append((Q @ np.hstack([a0, a])).T)
    return Expansion(times, np.append(0.0, nodes), np.array(coefficients))


def even_basis(x: np.ndarray, degree: int) -> np.ndarray:
    """φ_k (N, n) at x (N,): (L_k − L_{k+2}) / √(4k + 6) for k = 0, 2, …, degree (Shen 1994)."""
    k = np.arange(0, degree + 1, 2)
    L = legendre.legvander(x, degree + 2)
    return np.ascontiguousarray((L[:, k] - L[:, k + 2]) / np.sqrt(4 * k + 6))


def radau(stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes c (s,) and matrix A (s, s) of Radau IIA: A_ij is ℓ_j integrated from 0 to c_i."""
    z = legendre.legroots([0.0] * (stages - 1) + [-1.0, 1.0])
    z[-1] = 1.0
    values = legendre.legvander(z, stages - 1)
    integrals = legendre.legval(z, legendre.legint(np.eye(stages), lbnd=-1)).T / 2
    return (1 + z) / 2, integrals @ np.linalg.inv(values)


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


def _graded(panels: int) -> np.ndarray:
    """Ends of equal panels of [0, 1], the first one halved down to `_FIRST_PANEL`."""
    halvings = math.ceil(math.log2(1 / (panels * _FIRST_PANEL)))
    halved = 0.5 ** np.arange(halvings, 0, -1) / panels
    return np.concatenate([[0.0], halved, np.arange(1, panels + 1) / panels])
