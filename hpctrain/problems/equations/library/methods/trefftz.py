"""Δu = κ² u in a square with round holes, by functions that solve the equation.

With polar coordinates r, θ about the middle of the square and r_h, θ_h about each hole,

    u = Σ_n i_n(r) (a_n cos nθ + b_n sin nθ) + Σ_h Σ_n k_n(r_h) (a_hn cos nθ_h + b_hn sin nθ_h),

where i_n = I_n(κr), k_n = K_n(κr_h), which for κ = 0 are rⁿ and r_h⁻ⁿ, or log r_h for n = 0. The
coefficients meet values at points of the boundary by least squares. What is left there bounds the
error everywhere, by the maximum principle.

Source: R. Hiptmair, A. Moiola, I. Perugia, A survey of Trefftz methods, Lecture Notes in
Computational Science and Engineering 114 (2016), 237-278.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ive, kve
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor

# Points a batch.
_BATCH = 2048
Hole = tuple[tuple[float, float], float]


@dataclass(frozen=True)
class Expansion:
    """The functions above, and a sum of them.

    Attributes:
        half: of the length of the square's sides; its middle is the origin.
        holes: centres and radii.
        kappa: κ.
        orders: the largest n about the middle, and about each hole.
        coefficients: (n,).
    """

    half: float
    holes: tuple[Hole, ...]
    kappa: float
    orders: tuple[int, int]
    coefficients: np.ndarray

    def at(self, points: Tensor) -> Tensor:
        """u (N,) at points (2, N); the order of all sums is fixed, so no BLAS here."""
        batches = [to_array(batch) for batch in points.double().split(_BATCH, dim=1)]
        sums = [(self.make_columns(*each) * self.coefficients).sum(axis=1) for each in batches]
        return to_tensor(np.concatenate(sums))

    def make_columns(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Each function at points (N,), of a size near 1 at most: (N, n)."""
        most, of_hole = self.orders
        parts = [_waves(x, y, most) * self._regular(np.hypot(x, y))]
        for (cx, cy), radius in self.holes:
            r = np.hypot(x - cx, y - cy)
            parts.append(_waves(x - cx, y - cy, of_hole) * self._singular(r, radius))
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def _regular(self, r: np.ndarray) -> np.ndarray:
        """i_n(r) / i_n(R) of the corner's distance R, for each cosine and sine (N, 2n + 1)."""
        n, far = np.arange(self.orders[0] + 1), math.sqrt(2) * self.half
        if self.kappa == 0:
            return _for_waves((r[:, None] / far) ** n)
        ratio = ive(n, self.kappa * r[:, None]) / ive(n, self.kappa * far)
        return _for_waves(ratio * np.exp(self.kappa * (r[:, None] - far)))

    def _singular(self, r: np.ndarray, radius: float) -> np.ndarray:
        """k_n(r) / k_n(radius), for κ = 0 and n = 0 log r."""
        if self.kappa == 0:
            powers = (radius / r[:, None]) ** np.arange(self.orders[1] + 1)
            powers[:, 0] = np.log(r)
            return _for_waves(powers)
        most = self.orders[1]
        ratio = _scaled_k(most, self.kappa * r) / _scaled_k(most, np.array([self.kappa * radius]))
        return _for_waves(ratio * np.exp(self.kappa * (radius - r[:, None])))


def solve(
    half: float,
    holes: Sequence[Hole],
    kappa: float,
    orders: tuple[int, int],
    values: Sequence[float | np.ndarray],
) -> Expansion:
    """The solution with given values on the square, and on each hole.

    Args:
        half, holes, kappa, orders: see `Expansion`.
        values: one for the square and one for each hole, numbers or (N,) at `place_points`.
    """
    empty = Expansion(half, tuple(holes), kappa, orders, np.zeros(0))
    parts = place_points(half, holes)
    columns = np.concatenate([empty.make_columns(*part) for part in parts])
    wanted = [np.broadcast_to(v, part[0].shape) for v, part in zip(values, parts, strict=True)]
    found = np.linalg.lstsq(columns, np.concatenate(wanted), rcond=1e-15)[0]
    return Expansion(half, tuple(holes), kappa, orders, found)


def place_points(
    half: float, holes: Sequence[Hole], count: int = 400
) -> list[tuple[np.ndarray, np.ndarray]]:
    """x and y on the square, denser at its corners, and on each hole: `count` on each side."""
    s = half * np.cos(math.pi * (np.arange(count) + 0.5) / count)
    end = np.full(count, half)
    square = np.concatenate([s, s, end, -end]), np.concatenate([end, -end, s, s])
    angle = 2 * math.pi * (np.arange(count) + 0.25) / count
    circles = [(x + a * np.cos(angle), y + a * np.sin(angle)) for (x, y), a in holes]
    return [square, *circles]


def _scaled_k(most: int, x: np.ndarray) -> np.ndarray:
    """eˣ K_n(x), n = 0 … `most` (N, most + 1), by the recurrence upwards, which is stable."""
    found = [kve(0, x), kve(1, x)]
    for n in range(1, most):
        found.append(found[n - 1] + 2 * n / x * found[n])
    return np.stack(found, axis=1)


def _for_waves(radial: np.ndarray) -> np.ndarray:
    """Columns for n = 0, 1, 2, … as those for 0, 1, 1, 2, 2, …, beside those of `_waves`."""
    return np.concatenate([radial[:, :1], np.repeat(radial[:, 1:], 2, axis=1)], axis=1)


def _waves(x: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """1, cos θ, sin θ, cos 2θ, … (N, 2n + 1)."""
    angle = np.arctan2(y, x)[:, None] * np.arange(1, most + 1)
    pairs = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(len(x), -1)
    return np.concatenate([np.ones((len(x), 1)), pairs], axis=1)
