"""Fields in a plane by series of waves along x times waves along y; in time by `etdrk4`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy  # whose fft is imported as it is first used: a tenth of a second of every start
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.library.methods.etdrk4 import Fourier, advance, coefficients


class Space(Protocol):
    """Where a field is: its coefficients (…, mx, my), and its values (…, nx, ny) at nodes."""

    @property
    def laplacian(self) -> np.ndarray:
        """What Δ multiplies coefficients by (mx, my)."""

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Coefficients of values."""

    def values(self, coefficients: np.ndarray) -> np.ndarray:
        """Values of coefficients."""

    def bases(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The waves along x (N, mx), and along y (M, my)."""


@dataclass(frozen=True)
class Sines:
    """Σ c_jk sin(jπx/a) sin(kπy/b), j and k from 1.

    Attributes:
        counts: of the waves along x and y, and of the nodes between their ends.
        lengths: a and b.
    """

    counts: tuple[int, int]
    lengths: tuple[float, float]

    @property
    def nodes(self) -> tuple[np.ndarray, ...]:
        """x and y (nx, ny)."""
        pairs = zip(self.counts, self.lengths, strict=True)
        lines = [length / (n + 1) * np.arange(1, n + 1) for n, length in pairs]
        return np.meshgrid(*lines, indexing="ij")

    @property
    def kappa(self) -> list[np.ndarray]:
        """Wave numbers along x and along y."""
        pairs = zip(self.counts, self.lengths, strict=True)
        return [math.pi / length * np.arange(1, n + 1) for n, length in pairs]

    @property
    def laplacian(self) -> np.ndarray:
        along_x, along_y = self.kappa
        return -(along_x[:, None] ** 2) - along_y**2

    def transform(self, values: np.ndarray) -> np.ndarray:
        return scipy.fft.dstn(values, type=1, axes=(-2, -1)) / math.prod(n + 1 for n in self.counts)

    def values(self, coefficients: np.ndarray) -> np.ndarray:
        return scipy.fft.dstn(coefficients, type=1, axes=(-2, -1)) / 4

    def bases(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        along_x, along_y = self.kappa
        return np.sin(x[:, None] * along_x), np.sin(y[:, None] * along_y)


@dataclass(frozen=True)
class Cosines:
    """Fields of slope 0 on the sides of [low, low + length)², by products of cosines.

    Attributes:
        n: waves, and nodes, along each coordinate.
    """

    n: int
    low: float
    length: float

    @property
    def nodes(self) -> tuple[np.ndarray, ...]:
        """x and y (n, n)."""
        line = self.low + self.length / self.n * (np.arange(self.n) + 0.5)
        return np.meshgrid(line, line, indexing="ij")

    @property
    def kappa(self) -> np.ndarray:
        """Wave numbers (n,)."""
        return math.pi / self.length * np.arange(self.n)

    @property
    def laplacian(self) -> np.ndarray:
        return -(self.kappa[:, None] ** 2) - self.kappa**2

    def transform(self, values: np.ndarray) -> np.ndarray:
        return scipy.fft.dctn(values, type=2, axes=(-2, -1)) / (2 * self.n) ** 2

    def values(self, coefficients: np.ndarray) -> np.ndarray:
        return scipy.fft.dctn(coefficients, type=3, axes=(-2, -1))

    def bases(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = np.where(self.kappa > 0, 2.0, 1.0)
        along_x, along_y = (size * np.cos((s - self.low)[:, None] * self.kappa) for s in (x, y))
        return along_x, along_y


@dataclass(frozen=True)
class Waves:
    """Real fields that repeat themselves outside of [low, low + length)².

    Attributes:
        n: nodes along each coordinate, even.
    """

    n: int
    low: float
    length: float

    @property
    def nodes(self) -> tuple[np.ndarray, ...]:
        """x and y (n, n)."""
        line = self._lines[0].nodes
        return np.meshgrid(line, line, indexing="ij")

    @cached_property
    def _lines(self) -> tuple[Fourier, Fourier]:
        """Of x, whose waves of both signs are held, and of y."""
        x, y = (Fourier(self.n, self.low, self.length, is_real) for is_real in (False, True))
        return x, y

    @property
    def laplacian(self) -> np.ndarray:
        x, y = self._lines
        return -(x.kappa[:, None] ** 2) - y.kappa**2

    def transform(self, values: np.ndarray) -> np.ndarray:
        return scipy.fft.rfft2(values)

    def values(self, coefficients: np.ndarray) -> np.ndarray:
        return scipy.fft.irfft2(coefficients, (self.n, self.n))

    def bases(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        along_x, along_y = self._lines
        return along_x.basis(x), along_y.basis(y)


def evaluate(space: Space, state: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A field (N,) at points, of coefficients (mx, my); sums have a fixed order, so no BLAS."""
    columns, column = np.unique(x, return_inverse=True)
    X, Y = space.bases(columns, y)
    a = np.zeros((len(columns), state.shape[1]), state.dtype)
    for j, own in enumerate(state):
        a += X[:, j, None] * own
    return (a[column] * Y).sum(axis=1).real


@dataclass(frozen=True)
class Evolution:
    """The fields from given values onwards, in steps of equal length.

    Attributes:
        space: where.
        linear: L (k, mx, my), real.
        nonlinear: N, takes a time and coefficients (k, mx, my), gives coefficients.
        start: values (k, nx, ny) at time 0.
        step: h.
        steps: how many.
        every: how many between states that are kept.
    """

    space: Space
    linear: np.ndarray
    nonlinear: Callable[[float, np.ndarray], np.ndarray]
    start: np.ndarray
    step: float
    steps: int
    every: int

    def at(self, points: Tensor) -> list[Tensor]:
        """Each field (N,) at times and places (3, N); a point's bits depend on that one alone."""
        t, x, y = to_array(points.double())
        found = np.zeros((len(self.start), len(t)))
        for time in np.unique(t):
            now = t == time
            for own, state in zip(found, self._state(float(time)), strict=True):
                own[now] = evaluate(self.space, state, x[now], y[now])
        return [to_tensor(own) for own in found]

    def _state(self, t: float) -> np.ndarray:
        """Coefficients at a time: from the state kept before it, at last by a shorter step."""
        # A time that is a step's end but for round-off is that.
        whole = min(int(t / self.step + 1e-9), self.steps)
        first = whole // self.every * self.every
        u = self._go(self._keep(first), first, whole)
        rest = t - whole * self.step
        if rest <= 1e-9 * self.step:
            return u
        return advance(self.nonlinear, u, whole * self.step, rest, _factors(self.linear, rest))

    def _go(self, u: np.ndarray, first: int, last: int) -> np.ndarray:
        """From one step's end to another's."""
        for k in range(first, last):
            u = advance(self.nonlinear, u, k * self.step, self.step, self._factors)
        return u

    @cached_property
    def _factors(self) -> tuple[np.ndarray, ...]:
        return _factors(self.linear, self.step)

    def _keep(self, step: int) -> np.ndarray:
        """The state after so many steps, a multiple of `every`: kept, as are those before it."""
        while len(self._kept) <= step // self.every:
            last = (len(self._kept) - 1) * self.every
            self._kept.append(self._go(self._kept[-1], last, last + self.every))
        return self._kept[step // self.every]

    @cached_property
    def _kept(self) -> list[np.ndarray]:
        """The states after 0, `every`, 2 · `every`, … steps, as far as they have been asked for."""
        return [self.space.transform(self.start)]


def _factors(linear: np.ndarray, h: float) -> tuple[np.ndarray, ...]:
    """Those of `etdrk4.coefficients`, which are real as L is."""
    return tuple(each.real for each in coefficients(linear, h))
