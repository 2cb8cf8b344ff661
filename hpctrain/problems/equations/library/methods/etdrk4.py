"""Periodic solutions by Fourier series in space and exponential time differencing of order four.

The coefficients of the series follow û' = L û + N(û), L diagonal. One step of length h takes

    a = E₂ û + Q N(û),  b = E₂ û + Q N(a),  c = E₂ a + Q (2 N(b) − N(û)),
    û⁺ = E û + f₁ N(û) + 2 f₂ (N(a) + N(b)) + f₃ N(c),    E = e^{hL}, E₂ = e^{hL/2},

where Q, f₁, f₂, f₃ are functions of hL that round-off spoils near 0; they are means over a circle
about hL. The whole circle is taken: half of it would do for real L only.

Source: A.-K. Kassam, L. N. Trefethen, Fourth-order time-stepping for stiff PDEs, SIAM J. Sci.
Comput. 26 (2005), 1214-1233.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor

_CIRCLE = np.exp(2j * math.pi * (np.arange(32) + 0.5) / 32)
# Terms of series that are held at a time: points × modes.
_HELD = 2**21
# Steps between the states that are kept.
_EVERY = 8


@dataclass(frozen=True)
class Fourier:
    """n equally spaced nodes of [low, low + length), and the modes of a real or complex field.

    Attributes:
        n: even.
        is_real: only modes of wave number κ >= 0 are held.
    """

    n: int
    low: float
    length: float
    is_real: bool = True

    @property
    def nodes(self) -> np.ndarray:
        """(n,)."""
        return self.low + self.length / self.n * np.arange(self.n)

    @cached_property
    def kappa(self) -> np.ndarray:
        """Wave numbers (m,); the highest one, whose odd derivatives are none, counts as zero."""
        frequencies = np.fft.rfftfreq if self.is_real else np.fft.fftfreq
        kappa = 2 * math.pi * frequencies(self.n, self.length / self.n)
        kappa[self.n // 2] = 0.0
        return kappa

    @cached_property
    def resolved(self) -> np.ndarray:
        """1 for the lower two thirds of the modes, which products of two fields do not alias."""
        return (np.abs(self.kappa) < 2 / 3 * math.pi * self.n / self.length) * 1.0

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Coefficients (m,) of values (n,) at the nodes."""
        return np.fft.rfft(values) if self.is_real else np.fft.fft(values)

    def values(self, coefficients: np.ndarray) -> np.ndarray:
        """Back at the nodes, (n,)."""
        return np.fft.irfft(coefficients, self.n) if self.is_real else np.fft.ifft(coefficients)

    def basis(self, x: np.ndarray) -> np.ndarray:
        """Whose sum with coefficients is the field at x (N,), or has it as its real part (N, m)."""
        waves = np.exp(1j * self.kappa * (x[:, None] - self.low)) / self.n
        waves[:, self.n // 2] = 0.0
        if self.is_real:
            waves[:, 1:] *= 2
        return waves


@dataclass(frozen=True)
class Evolution:
    """The solution from given values onwards, in steps of equal length.

    Attributes:
        fourier: where.
        linear: L (m,).
        nonlinear: N, takes and gives coefficients (m,).
        start: values (n,) at time 0.
        step: h.
        steps: how many.
    """

    fourier: Fourier
    linear: np.ndarray
    nonlinear: Callable[[np.ndarray], np.ndarray]
    start: np.ndarray
    step: float
    steps: int

    def at(self, points: Tensor) -> Tensor:
        """The field (N,) at times and places (2, N); bits of a point depend on that one alone."""
        batches = points.double().split(max(1, _HELD // len(self.linear)), dim=1)
        return torch.cat([to_tensor(self._at(*to_array(batch))) for batch in batches])

    def _at(self, t: np.ndarray, x: np.ndarray) -> np.ndarray:
        times, row_of_time = np.unique(t, return_inverse=True)
        places, row_of_place = np.unique(x, return_inverse=True)
        states = np.stack([self._state(time) for time in times])
        sums = (states[row_of_time] * self.fourier.basis(places)[row_of_place]).sum(axis=1)
        return sums.real if self.fourier.is_real else sums

    def _state(self, t: float) -> np.ndarray:
        """Coefficients at a time: from the state kept before it, at last by a shorter step."""
        whole = min(int(t / self.step), self.steps)
        u = self._kept[whole // _EVERY]
        for _ in range(whole % _EVERY):
            u = self._advance(u, self._coefficients)
        rest = t - whole * self.step
        return self._advance(u, coefficients(self.linear, rest)) if rest > 0 else u

    @cached_property
    def _coefficients(self) -> tuple[np.ndarray, ...]:
        return coefficients(self.linear, self.step)

    @cached_property
    def _kept(self) -> list[np.ndarray]:
        """Every `_EVERY`-th state."""
        u = self.fourier.transform(self.start)
        kept = [u]
        for k in range(1, self.steps + 1):
            u = self._advance(u, self._coefficients)
            if k % _EVERY == 0:
                kept.append(u)
        return kept

    def _advance(self, u: np.ndarray, factors: tuple[np.ndarray, ...]) -> np.ndarray:
        return advance(lambda _, v: self.nonlinear(v), u, 0.0, 0.0, factors)


def advance(
    N: Callable[[float, np.ndarray], np.ndarray],
    u: np.ndarray,
    t: float,
    h: float,
    factors: tuple[np.ndarray, ...],
) -> np.ndarray:
    """The coefficients at t + h of u at t.

    Args:
        N: takes a time and coefficients.
        factors: see `coefficients`.
    """
    E, E2, Q, f1, f2, f3 = factors
    middle = t + h / 2
    Nu, half = N(t, u), E2 * u
    a = half + Q * Nu
    Na = N(middle, a)
    Nb = N(middle, half + Q * Na)
    Nc = N(t + h, E2 * a + Q * (2 * Nb - Nu))
    return E * u + f1 * Nu + 2 * f2 * (Na + Nb) + f3 * Nc


def coefficients(linear: np.ndarray, h: float) -> tuple[np.ndarray, ...]:
    """E, E₂, Q, f₁, f₂, f₃ for steps of length h, of the shape of L each."""
    z = h * linear[..., None] + _CIRCLE
    e = np.exp(z)
    Q = ((np.exp(z / 2) - 1) / z).mean(axis=-1)
    f1 = ((-4 - z + e * (4 - 3 * z + z**2)) / z**3).mean(axis=-1)
    f2 = ((2 + z + e * (z - 2)) / z**3).mean(axis=-1)
    f3 = ((-4 - 3 * z - z**2 + e * (4 - z)) / z**3).mean(axis=-1)
    return np.exp(h * linear), np.exp(h * linear / 2), h * Q, h * f1, h * f2, h * f3
