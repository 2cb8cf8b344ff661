"""What a network takes at points: scaled coordinates, or periodic and other functions of them.

Coordinates and inputs scaled from the domain to [−1, 1] are

    ξ_i = s_i (x_i − m_i),   s_i = 2 / (b_i − a_i),   m_i = (a_i + b_i) / 2,

and a derivative along x is that along ξ times the slopes s of its index. Where a jet has a
Laplacian or the inputs are other functions of x, the kernel is given the jets of the inputs
themselves, and its jets are along x.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from hpctrain.kernels.fallback import compose_jets, differentiate_activation
from hpctrain.kernels.jets import JetShape
from hpctrain.problems.equations.ansatz import Function, evaluate_jets
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.fields import list_components

# Sizes of a coordinate between which networks are trained without scaling.
USUAL_SIZES = (1e-3, 1e3)


class Embedding(Protocol):
    """Functions of a coordinate that a network takes in its place.

    Attributes:
        along: the coordinate.
        count: how many there are.
    """

    @property
    def along(self) -> str: ...

    @property
    def count(self) -> int: ...

    def inputs(self, x: Tensor, low: float, high: float) -> list[Tensor]:
        """They (N,) at x (N,) in [low, high]."""

    def base(self, x: Tensor, low: float, high: float) -> Tensor:
        """What random frequencies multiply (N,)."""

    def admit(self, frequencies: Tensor) -> Tensor:
        """The frequencies nearest to these whose sine and cosine are functions of the same kind."""


@dataclass(frozen=True)
class NetworkInputs:
    """The map from points to what a network takes.

    Attributes:
        frame: the coordinates and their bounds.
        scales: to [−1, 1].
        embedded: what goes in in the place of some coordinates, such as waves.
        fourier: random frequencies (m, d); sine and cosine of coordinates scaled to [−1, 1] go in
            beside them, or of what an embedding has as its base, with frequencies that it admits.
        taken: names of the coordinates and inputs that the network takes; None for all.
        box: bounds from which coordinates are scaled; None for those of the domain.
    """

    frame: Frame
    scales: bool = True
    embedded: Sequence[Embedding] = ()
    fourier: Tensor | None = field(default=None, compare=False)
    taken: tuple[str, ...] | None = None
    box: tuple[tuple[float, float], ...] | None = None

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """From which coordinates are scaled."""
        return self.frame.region.bounds if self.box is None else self.box

    @property
    def is_plain(self) -> bool:
        """Whether the network takes one number a coordinate, scaled or not."""
        return not self._own and self.fourier is None

    @property
    def count(self) -> int:
        """Numbers that the network takes at a point."""
        further = sum(each.count - 1 for each in self._own)
        fourier = 0 if self.fourier is None else 2 * len(self.fourier)
        return len(self._places) + further + fourier

    def values(self, points: Tensor) -> Tensor:
        """What goes in (p, N) at points (d, N)."""
        taken = [self._take(place, points) for place in self._places]
        rows = [row for own, _ in taken for row in own]
        if self.fourier is not None:
            angles = _turn(self._frequencies.to(points), torch.stack([first for _, first in taken]))
            rows += [*torch.sin(angles), *torch.cos(angles)]
        return torch.stack(rows)

    def _take(self, place: int, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """What goes in for a coordinate, rows (N,), and what frequencies multiply."""
        x, bounds = points[place], self.bounds[place]
        own = self._find_embedding(place)
        if own is not None:
            return own.inputs(x, *bounds), own.base(x, *bounds)
        scaled = _scale(x, bounds)
        return [scaled if self.scales else x], scaled

    def jets(self, points: Tensor, shape: JetShape) -> Tensor:
        """Their derivatives along x, (components, p, N)."""
        taken = [self._take_jets(place, points, shape) for place in self._places]
        rows = [own for own, _ in taken]
        if self.fourier is not None:
            firsts = torch.stack([first for _, first in taken], dim=1)
            angles = _turn(self._frequencies.to(points), firsts).unbind()
            slopes = differentiate_activation("sin", angles[0], shape.order + 1)
            rows += [
                torch.stack(compose_jets(shape, each, angles)) for each in (slopes, slopes[1:])
            ]
        return torch.cat(rows, dim=1)

    def _take_jets(self, place: int, points: Tensor, shape: JetShape) -> tuple[Tensor, Tensor]:
        """The jets of `_take`, (components, rows, N) and (components, N)."""
        taken, first = self._take(place, points)
        if self._find_embedding(place) is not None:
            functions = (partial(self._row, place, k) for k in range(len(taken) + 1))
            *each, base = (_differentiate(function, points, shape) for function in functions)
            return torch.stack(each, dim=1), base
        a, b = self.bounds[place]
        own = _make_linear_jets(shape, place, taken[0], self._slopes[place])
        return own[:, None], _make_linear_jets(shape, place, first, 2 / (b - a))

    def _row(self, place: int, number: int, points: Tensor) -> Tensor:
        """One of the functions in the place of a coordinate, or its base, which comes last."""
        rows, base = self._take(place, points)
        return [*rows, base][number]

    def factors(self, shape: JetShape) -> list[float]:
        """By component: a derivative along x in units of that along ξ, for plain inputs."""
        slopes = self._slopes
        return [math.prod(slopes[i] for i in index) for index in shape.indices]

    @property
    def _places(self) -> list[int]:
        """The numbers of the coordinates that are taken."""
        names = self.frame.axes.names
        return [i for i, name in enumerate(names) if self.taken is None or name in self.taken]

    @property
    def _frequencies(self) -> Tensor:
        """Of the coordinates that are taken, (m, their number)."""
        assert self.fourier is not None
        found = list[Tensor]()
        for place in self._places:
            own = self._find_embedding(place)
            drawn = self.fourier[:, place]
            found.append(drawn if own is None else own.admit(drawn))
        return torch.stack(found, dim=1)

    @property
    def _own(self) -> list[Embedding]:
        """What goes in in the place of coordinates that are taken."""
        found = (self._find_embedding(place) for place in self._places)
        return [each for each in found if each is not None]

    def _find_embedding(self, place: int) -> Embedding | None:
        """What goes in in the place of a coordinate; of several the last."""
        name = self.frame.axes.names[place]
        return {each.along: each for each in self.embedded}.get(name)

    @property
    def _slopes(self) -> tuple[float, ...]:
        """s, 1 where nothing is scaled."""
        return tuple(2 / (b - a) if self.scales else 1.0 for a, b in self.bounds)


def _turn(frequencies: Tensor, firsts: Tensor) -> Tensor:
    """Products (…, m, N) of frequencies (m, p) and numbers (…, p, N).

    One coordinate after the other: a matrix product's bits depend on N, which is a rank's own.
    """
    total = frequencies[:, 0, None] * firsts[..., 0, None, :]
    for k in range(1, frequencies.shape[1]):
        total = total + frequencies[:, k, None] * firsts[..., k, None, :]
    return total


def _differentiate(function: Function, points: Tensor, shape: JetShape) -> Tensor:
    """The jets (components, N) of a function of the points."""
    components = list_components(shape)
    found = evaluate_jets(function, points, components, shape.laplacian, "an input")
    return torch.stack([found[each] for each in components])


def _make_linear_jets(shape: JetShape, along: int, values: Tensor, slope: float) -> Tensor:
    """The jets (components, N) of a linear function of one coordinate."""
    jets = values.new_zeros(shape.components, len(values))
    jets[0] = values
    if (along,) in shape.indices:
        jets[shape.find_position((along,))] = slope
    return jets


def _scale(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    a, b = bounds
    return 2 / (b - a) * (x - (a + (b - a) / 2))


def list_size_cautions(frame: Frame, off: Sequence[str]) -> Iterator[str]:
    """A warning where a coordinate's extent or magnitude suits no raw inputs.

    Args:
        off: settings that scale, and are false.
    """
    least, greatest = USUAL_SIZES
    for name, (a, b) in zip(frame.axes.names, frame.region.bounds, strict=True):
        if off and not all(least <= size <= greatest for size in (b - a, max(abs(a), abs(b)))):
            yield (
                f"{' and '.join(off)} = false, and {name} is in [{a:g}, {b:g}]: training suffers"
                f" where the extent or magnitude of one is not within {least:g} to {greatest:g}"
            )
            return
