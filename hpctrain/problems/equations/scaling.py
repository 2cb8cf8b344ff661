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

from hpctrain.kernels.jets import JetShape, make_input_jets
from hpctrain.problems.equations.ansatz import evaluate_jets
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.fields import LAPLACIAN, Component
from hpctrain.problems.equations.geometry.base import column

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


@dataclass(frozen=True)
class NetworkInputs:
    """The map from points to what a network takes.

    Attributes:
        frame: the coordinates and their bounds.
        scales: to [−1, 1].
        embedded: what goes in in the place of some coordinates, such as waves.
        fourier: random frequencies (m, d); sine and cosine of coordinates scaled to [−1, 1] go in
            beside them, and of the first function of one that is embedded.
        taken: names of the coordinates and inputs that the network takes; None for all.
    """

    frame: Frame
    scales: bool = True
    embedded: Sequence[Embedding] = ()
    fourier: Tensor | None = field(default=None, compare=False)
    taken: tuple[str, ...] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the network takes one number a coordinate, scaled or not."""
        return not self._own and self.fourier is None

    @property
    def count(self) -> int:
        """Numbers that the network takes at a point."""
        further = sum(each.count - 1 for each in self._own.values())
        fourier = 0 if self.fourier is None else 2 * len(self.fourier)
        return len(self._places) + further + fourier

    def values(self, points: Tensor) -> Tensor:
        """What goes in (p, N) at points (d, N)."""
        own = self._own
        rows, scaled = list[Tensor](), list[Tensor]()
        for place in self._places:
            name, x = self.frame.axes.names[place], points[place]
            bounds = self.frame.region.bounds[place]
            if name in own:
                functions = own[name].inputs(x, *bounds)
                scaled.append(functions[0])
                rows += functions
            else:
                scaled.append(_scale(x, bounds))
                rows.append(scaled[-1] if self.scales else x)
        if self.fourier is not None:
            angles = self.fourier[:, self._places].to(points) @ torch.stack(scaled)
            rows += [*torch.sin(angles), *torch.cos(angles)]
        return torch.stack(rows)

    def jets(self, points: Tensor, shape: JetShape) -> Tensor:
        """Their derivatives along x, (components, p, N)."""
        if self.is_plain:
            jets = make_input_jets(shape, points) * column(self._slopes, points)
            jets = jets[:, self._places]
            jets[0] = self.values(points)
            return jets
        space = shape.laplacian
        components: list[Component] = [*shape.indices, *([LAPLACIAN] if space else [])]
        rows = []
        for number in range(self.count):
            row = partial(self._row, number)
            found = evaluate_jets(row, points, components, space, "an input")
            rows.append(torch.stack([found[c] for c in components]))
        return torch.stack(rows, dim=1)

    def _row(self, number: int, points: Tensor) -> Tensor:
        return self.values(points)[number]

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
    def _own(self) -> dict[str, Embedding]:
        """What goes in in the place of a coordinate, by its name, of those that are taken."""
        names = [self.frame.axes.names[place] for place in self._places]
        return {each.along: each for each in self.embedded if each.along in names}

    @property
    def _slopes(self) -> tuple[float, ...]:
        """s, 1 where nothing is scaled."""
        return tuple(2 / (b - a) if self.scales else 1.0 for a, b in self.frame.region.bounds)


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
