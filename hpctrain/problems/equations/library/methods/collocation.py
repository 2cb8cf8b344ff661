"""Reaction and diffusion by Galerkin's method in space and collocation in time.

In a basis of eigenfunctions the coefficients follow a' = −λ a + g(a). Collocation at the nodes of
Radau IIA on a panel of length h is a = a₀ + h A a', and with a constant c amid the range of g' a
sweep of its iteration is

    a_k ← (I − h (c − λ_k) A)⁻¹ (a₀_k + h A (g_k − c a_k)).

Source: E. Hairer, G. Wanner, Solving Ordinary Differential Equations II (1996), section IV.5.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre


@dataclass(frozen=True)
class Expansion:
    """v(t, x) = Σ_k a_k(t) φ_k(x), each a_k a polynomial in t on every panel.

    Attributes:
        basis: takes x (N,), gives φ (N, n).
        panels: their ends (P + 1,), increasing.
        nodes: of the polynomials, in a panel of length 1 (s + 1,), both ends included.
        coefficients: a_k at the nodes (P, s + 1, n).
    """

    basis: Callable[[np.ndarray], np.ndarray]
    panels: np.ndarray
    nodes: np.ndarray
    coefficients: np.ndarray

    def at(self, t: np.ndarray, x: np.ndarray) -> np.ndarray:
        """v (N,) at points t, x (N,); the order of all sums is fixed, so no BLAS here."""
        times, row_of_time = np.unique(t, return_inverse=True)
        places, row_of_place = np.unique(x, return_inverse=True)
        a = self._coefficients_at(times)
        phi = self.basis(places)
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


@dataclass(frozen=True)
class Reaction:
    """What acts at quadrature nodes, in a basis of eigenfunctions.

    Attributes:
        psi: values of eigenfunctions at the nodes (M, n).
        project: takes values at the nodes to coefficients (n, M).
        rates: λ (n,).
        reaction: of values (M, s) at the nodes.
        slope: c, amid the range of its derivative.
    """

    psi: np.ndarray
    project: np.ndarray
    rates: np.ndarray
    reaction: Callable[[np.ndarray], np.ndarray]
    slope: float

    def solve(
        self, start: np.ndarray, times: np.ndarray, stages: int, sweeps: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Nodes (s + 1,) of a panel, and a there (n, s + 1) on each panel.

        Args:
            start: values (M,) at the first of the times.
            times: ends of panels.
            stages: of Radau IIA.
            sweeps: of the iteration on each panel; each reduces its error by 10 or more.
        """
        nodes, A = radau(stages)
        c, found = self.slope, list[np.ndarray]()
        a = np.tile((self.project @ start)[:, None], stages)
        for h in np.diff(times):
            a0 = a[:, -1:]
            inverse = np.linalg.inv(np.eye(stages) - h * (c - self.rates)[:, None, None] * A)
            for _ in range(sweeps):
                known = a0 + h * (self.project @ self.reaction(self.psi @ a) - c * a) @ A.T
                a = (inverse @ known[:, :, None])[:, :, 0]
            found.append(np.hstack([a0, a]))
        return np.append(0.0, nodes), found


def radau(stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes c (s,) and matrix A (s, s) of Radau IIA: A_ij is ℓ_j integrated from 0 to c_i."""
    z = legendre.legroots([0.0] * (stages - 1) + [-1.0, 1.0])
    z[-1] = 1.0
    values = legendre.legvander(z, stages - 1)
    integrals = legendre.legval(z, legendre.legint(np.eye(stages), lbnd=-1)).T / 2
    return (1 + z) / 2, integrals @ np.linalg.inv(values)


def grade_panels(panels: int, first: float) -> np.ndarray:
    """Ends of equal panels of [0, 1], the first one halved until it is not longer than `first`."""
    halvings = math.ceil(math.log2(1 / (panels * first)))
    halved = 0.5 ** np.arange(halvings, 0, -1) / panels
    return np.concatenate([[0.0], halved, np.arange(1, panels + 1) / panels])
