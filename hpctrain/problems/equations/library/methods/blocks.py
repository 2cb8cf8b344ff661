"""−Δu = g in a square of blocks with ∂u/∂n + u = 0 around it, g being a sum of products in a block.

Galerkin's method with polynomials of a degree in x and y on each block, φ_j(x) φ_k(y). With the
matrices K_jk = (φ_j', φ_k') + φ_j φ_k at both ends, M_jk = (φ_j, φ_k) of one coordinate and
K V = M V Λ, VᵀMV = I, the coefficients are

    U = V [(Vᵀ G V)_jk / (λ_j + λ_k)] Vᵀ,    G_jk = (g, φ_j φ_k).

u and its slopes are continuous; where blocks meet its second derivatives have terms log r.

Source: R. E. Lynch, J. R. Rice, D. H. Thomas, Direct solution of partial difference equations by
tensor product methods, Numer. Math. 6 (1964), 185-199, for the diagonal form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor

# A function of a place in a block, in [0, 1].
Local = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Line:
    """Polynomials on equal blocks of an interval, continuous: hats, and bubbles on each block.

    Attributes:
        low, high: ends of the interval.
        count: of the blocks.
        degree: of the polynomials.
    """

    low: float
    high: float
    count: int
    degree: int

    @property
    def size(self) -> float:
        """The length of a block."""
        return (self.high - self.low) / self.count

    def basis(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """φ_k and φ_k' (N, n) at x (N,)."""
        block = np.clip(np.floor((x - self.low) / self.size), 0, self.count - 1).astype(int)
        return self._basis_in(block, (x - self.low) / self.size - block)

    def _basis_in(self, block: np.ndarray, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same by the numbers of blocks and the places in them (N,)."""
        bubbles, rows = self.degree - 1, np.arange(len(xi))
        L = legendre.legvander(2 * xi - 1, self.degree)
        both = np.zeros((2, len(xi), self.count + 1 + self.count * bubbles))
        values, slopes = both
        values[rows, block], values[rows, block + 1] = 1 - xi, xi
        slopes[rows, block], slopes[rows, block + 1] = -1 / self.size, 1 / self.size
        own = self.count + 1 + block[:, None] * bubbles + np.arange(bubbles)
        k = np.arange(1, self.degree)
        values[rows[:, None], own] = (L[:, 2:] - L[:, :-2]) / (2 * k + 1)
        slopes[rows[:, None], own] = 2 / self.size * L[:, 1:-1]
        return values, slopes

    def integrate(self, function: Local) -> np.ndarray:
        """(function, φ_k) over each block (count, n)."""
        xi, w, values, _ = self._quadrature()
        return np.einsum("q,bqk->bk", w * function(xi), values)

    def find_modes(self) -> tuple[np.ndarray, np.ndarray]:
        """λ (n,) and V (n, n)."""
        _, w, values, slopes = self._quadrature()
        K, M = (np.einsum("q,bqj,bqk->jk", w, f, f, optimize=True) for f in (slopes, values))
        K[0, 0] += 1
        K[self.count, self.count] += 1
        root = np.linalg.inv(np.linalg.cholesky(M))
        rates, Q = np.linalg.eigh(root @ K @ root.T)
        return rates, root.T @ Q

    def _quadrature(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Nodes, weights (q,), φ and φ' at the nodes of each block (count, q, n)."""
        z, w = legendre.leggauss(self.degree + 16)
        xi, w = (1 + z) / 2, w / 2 * self.size
        block = np.repeat(np.arange(self.count), len(xi))
        pair = self._basis_in(block, np.tile(xi, self.count))
        values, slopes = (each.reshape(self.count, len(xi), -1) for each in pair)
        return xi, w, values, slopes


@dataclass(frozen=True)
class Solution:
    """Σ_jk U_jk φ_j(x) φ_k(y).

    Attributes:
        line: of both coordinates.
        coefficients: U (n, n).
    """

    line: Line
    coefficients: np.ndarray

    def at(self, points: Tensor) -> Tensor:
        """u (N,) at points (2, N); the order of all sums is fixed, so no BLAS here."""
        x, y = to_array(points.double())
        columns, column = np.unique(x, return_inverse=True)
        X, Y = self.line.basis(columns)[0], self.line.basis(y)[0]
        a = np.zeros_like(X)
        for j, own in enumerate(self.coefficients):
            a += X[:, j, None] * own
        return to_tensor((a[column] * Y).sum(axis=1))


def solve(line: Line, products: Sequence[tuple[np.ndarray, Local]]) -> Solution:
    """The solution for g = Σ c_pq s(ξ) s(η) in block p along x, q along y.

    Args:
        line: of both coordinates.
        products: c (count, count) and s of each.
    """
    G = np.zeros((1, 1))
    for c, s in products:
        parts = line.integrate(s)
        G = G + parts.T @ c @ parts
    rates, V = line.find_modes()
    U = V @ ((V.T @ G @ V) / (rates[:, None] + rates)) @ V.T
    return Solution(line, U)
