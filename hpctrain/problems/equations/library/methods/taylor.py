"""Ordinary differential equations with quadratic terms by Taylor series.

For y' = A y + B(y, y) the coefficients of degree k + 1 follow from lower ones by Cauchy products,

    (k + 1) c_{k+1} = A c_k + Σ_{j ≤ k} B(c_j, c_{k−j}).

Source: E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I (1993),
section I.8.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor


@dataclass(frozen=True)
class TaylorSolution:
    """y as a polynomial on each of equal steps from time 0.

    Attributes:
        step: their length.
        coefficients: (steps, degree + 1, d).
    """

    step: float
    coefficients: np.ndarray

    def at(self, t: np.ndarray) -> np.ndarray:
        """y (N, d) at times t (N,)."""
        k = np.minimum((t / self.step).astype(int), len(self.coefficients) - 1)
        return _sum(self.coefficients[k], t - k * self.step)

    def evaluate_fields(self, fields: Sequence[str], t: Tensor) -> dict[str, Tensor]:
        """The components of y (N,) at times t (N,), as fields in their order."""
        values = self.at(to_array(t.double()))
        return {name: to_tensor(values[:, i].copy()) for i, name in enumerate(fields)}


def solve(
    A: np.ndarray, B: np.ndarray, start: np.ndarray, end: float, steps: int, degree: int = 24
) -> TaylorSolution:
    """The solution up to a time.

    Args:
        A: (d, d).
        B: B(y, z)_i = Σ_jk B_ijk y_j z_k (d, d, d).
        start: y at time 0 (d,).
        end: the time.
        steps, degree: of the polynomials.
    """
    step, panels = end / steps, []
    for _ in range(steps):
        c = np.zeros((degree + 1, len(start)))
        c[0] = start
        for k in range(degree):
            products = c[: k + 1].T @ c[k::-1]
            c[k + 1] = (A @ c[k] + (B * products).sum(axis=(1, 2))) / (k + 1)
        panels.append(c)
        start = _sum(c[None], np.array([step]))[0]
    return TaylorSolution(step, np.stack(panels))


def _sum(c: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Σ_k c_k s^k (N, d) of coefficients (N, degree + 1, d) at s (N,), by Horner's rule."""
    total = np.zeros_like(c[:, 0])
    for k in reversed(range(c.shape[1])):
        total = total * s[:, None] + c[:, k]
    return total
