"""Overlapping subdomains of a domain, each with networks of its own: u(x) = Σ_j w_j(x) N_j(x; θ_j).

Along each coordinate that is cut, [a, b] has S cells, and between two of them lies a ramp, the
interval e ± o h / 2 about their common end e, o the overlap, h the size of the smaller one. The
windows

    w_j = p_j - p_{j+1},   p_0 = 1,   p_S = 0,   p_j(x) = s((x - e_j) / (o h_j) + 1/2),

with the polynomial step s of degree 2 m + 1, which is 0 up to 0, 1 from 1 on, and has m continuous
derivatives, sum to one; those of several coordinates are multiplied. A point lies in at most two
supports along each coordinate that is cut.

Where both ends of a coordinate are one place, the cells make a ring: there is a ramp about its ends
as well, p_0 = p_S is that of the last and the first cell, and a window is that of the point moved
by whole periods to where it is nearest to the middle of its box. Networks take the coordinate moved
so too, scaled from the box: u has the period, for windows and inputs have it where w_j is not 0.

Source: B. Moseley, A. Markham, T. Nissen-Meyer, Finite basis physics-informed neural networks,
Advances in Computational Mathematics 49, 62 (2023).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.terms import ProblemError, Term

# How many cells, or the places between them.
Cut = int | Sequence[float]
# The setting that says so.
KEY = "network.subdomains"
# m, continuous derivatives of a window.
SMOOTHNESS = 3
# Cells of a ring: each of two would be on both sides of the other.
LEAST_OF_RING = 3


@dataclass(frozen=True)
class Cell:
    """Samples first … last - 1 of a term that touch the same subdomains.

    Attributes:
        members: the numbers of these, ascending.
    """

    members: tuple[int, ...]
    first: int
    last: int

    def clip(self, bounds: Sequence[int]) -> list[int]:
        """Bounds of chunks of the term's samples, of those samples that lie in the cell."""
        return [min(max(bound, self.first), self.last) for bound in bounds]


@dataclass(frozen=True)
class RingInput:
    """What networks take of a coordinate whose cells make a ring: itself, in the box of each.

    Attributes:
        along: the coordinate.
        period: P.
    """

    along: str
    period: float

    @property
    def count(self) -> int:
        """Numbers that the network takes."""
        return 1

    def inputs(self, x: Tensor, low: float, high: float) -> list[Tensor]:
        """x + k P, scaled from the box to [−1, 1]."""
        return [self.base(x, low, high)]

    def base(self, x: Tensor, low: float, high: float) -> Tensor:
        """The same."""
        middle = (low + high) / 2
        return 2 / (high - low) * (move_by_periods(x, middle, self.period) - middle)

    def admit(self, frequencies: Tensor) -> Tensor:
        """All of them."""
        return frequencies


class Subdomains:
    """The grid of subdomains; the last coordinate that is cut runs fastest.

    Args:
        frame: the coordinates and their bounds.
        cuts: how many there are along a coordinate, of one size, or the places between them,
            ascending, by its name.
        overlap: o, of each ramp, in units of the smaller one of two cells.
        embedded: coordinates that networks take other functions of, and what for.
        periodic: coordinates whose ends are one place.

    Raises:
        ProblemError: there is no such coordinate, or it cannot be cut, or not there, or not into
            so few.
    """

    def __init__(
        self,
        frame: Frame,
        cuts: Mapping[str, Cut],
        overlap: float,
        embedded: Mapping[str, str] | None = None,
        periodic: Collection[str] = (),
    ) -> None:
        names = frame.axes.names
        for name, cut in cuts.items():
            given = f"{KEY}.{name} = {cut} is not allowed"
            if name not in names:
                raise ProblemError(f"{given}: {frame.title} has {', '.join(names)}")
            if name in (embedded or {}):
                raise ProblemError(
                    f"{given}: networks take {name} by functions of it, for {embedded[name]}"  # type: ignore[index]
                )
            if name in periodic and count_cells(cut) < LEAST_OF_RING:
                raise ProblemError(
                    f"{given}: {name} is periodic: at least {LEAST_OF_RING} subdomains, or"
                    f" {LEAST_OF_RING - 1} places between them"
                )
        self._names, self._bounds = names, frame.region.bounds
        self._ends = find_ends(frame, cuts)
        self._periods = {
            axis: ends[-1] - ends[0] for axis, ends in self._ends.items() if names[axis] in periodic
        }
        self._overlap = overlap

    @property
    def count(self) -> int:
        """S, of all of them."""
        return math.prod(self._counts.values())

    @cached_property
    def _counts(self) -> dict[int, int]:
        """How many there are along a coordinate, by its number."""
        return {axis: len(ends) - 1 for axis, ends in self._ends.items()}

    def describe(self) -> str:
        """How many along which coordinates."""
        along = ", ".join(
            f"{count} {'around' if axis in self._periods else 'along'} {self._names[axis]}"
            for axis, count in self._counts.items()
        )
        return f"{self.count} subdomains ({along}, overlap {self._overlap:g})"

    @cached_property
    def places(self) -> list[dict[int, int]]:
        """The cell of each along the coordinates that are cut."""
        grid = product(*(range(count) for count in self._counts.values()))
        return [dict(zip(self._counts, cell, strict=True)) for cell in grid]

    @property
    def ring_inputs(self) -> tuple[RingInput, ...]:
        """What networks take in the place of coordinates whose cells make a ring."""
        return tuple(RingInput(self._names[axis], period) for axis, period in self._periods.items())

    def find_bounds(self, number: int) -> tuple[tuple[float, float], ...]:
        """The box (low, high) a coordinate where the window of a subdomain is not zero.

        That of the first and of the last one of a ring reaches beyond the domain.
        """
        found = list(self._bounds)
        for axis, cell in self.places[number].items():
            found[axis] = self._find_support(axis, cell)
        return tuple(found)

    def _find_support(self, axis: int, cell: int) -> tuple[float, float]:
        return self._find_ramp(axis, cell)[0], self._find_ramp(axis, cell + 1)[1]

    def _has_ramp(self, axis: int, number: int) -> bool:
        """Whether there are cells on both sides of e_j."""
        return axis in self._periods or number not in (0, self._counts[axis])

    def _find_ramp(self, axis: int, number: int) -> tuple[float, float]:
        """Where p_j begins to rise, and where it is 1; both at an end that is no ring's."""
        ends = self._ends[axis]
        e, sizes = ends[number], [b - a for a, b in pairwise(ends)]
        if not self._has_ramp(axis, number):
            return e, e
        half = self._overlap / 2 * min(sizes[number - 1], sizes[number % len(sizes)])
        return e - half, e + half

    def evaluate(self, number: int, points: Tensor) -> Tensor:
        """The window (N,) of a subdomain at points (d, N), differentiable in them."""
        window = torch.ones_like(points[0])
        for axis, cell in self.places[number].items():
            x = self._move(axis, cell, points[axis])
            window = window * (self._step(axis, cell, x) - self._step(axis, cell + 1, x))
        return window

    def _move(self, axis: int, cell: int, x: Tensor) -> Tensor:
        """A coordinate (N,) of points, of a ring to where it is nearest to a cell's support."""
        if axis not in self._periods:
            return x
        return move_by_periods(x, sum(self._find_support(axis, cell)) / 2, self._periods[axis])

    def _step(self, axis: int, number: int, x: Tensor) -> Tensor:
        if not self._has_ramp(axis, number):
            return torch.full_like(x, float(number == 0))
        low, high = self._find_ramp(axis, number)
        return smooth_step(((x - low) / (high - low)).clamp(0.0, 1.0))

    def find_touched(self, points: Tensor) -> Tensor:
        """Whether points (d, N) lie in the support of each window, (S, N)."""
        touched = torch.ones(self.count, points.shape[1], dtype=torch.bool, device=points.device)
        for row, place in zip(touched, self.places, strict=True):
            for axis, cell in place.items():
                x = self._move(axis, cell, points[axis])
                low, high = self._find_support(axis, cell)
                if self._has_ramp(axis, cell):
                    row &= x > low
                if self._has_ramp(axis, cell + 1):
                    row &= x < high
        return touched

    def find_cells(self, points: Tensor, group: int = 1) -> tuple[Tensor, list[Cell]]:
        """The order (N,) in which samples lie cell after cell, and the cells.

        Args:
            points: (d, N·group), the points of a sample one after the other.
        """
        count = points.shape[1] // group
        touched = self.find_touched(points).view(self.count, count, group).any(dim=2)
        found, cell_of = torch.unique(touched.T, dim=0, return_inverse=True)
        members = [tuple(row.nonzero()[:, 0].tolist()) for row in found]
        ranked = sorted(range(len(members)), key=lambda k: (_find_mean(members[k]), members[k]))
        rank = torch.empty(len(ranked), dtype=torch.int64)
        rank[torch.tensor(ranked)] = torch.arange(len(ranked))
        order = torch.argsort(rank[cell_of], stable=True)
        sizes = torch.bincount(cell_of, minlength=len(members)).tolist()
        cells, first = list[Cell](), 0
        for k in ranked:
            cells.append(Cell(members[k], first, first + sizes[k]))
            first += sizes[k]
        return order, cells


def count_cells(cut: Cut) -> int:
    """Along a coordinate that is cut."""
    return cut if isinstance(cut, int) else len(cut) + 1


def move_by_periods(x: Tensor, middle: float, period: float) -> Tensor:
    """x + k P in [middle − P/2, middle + P/2); of the slope 1."""
    return x - period * torch.floor((x.detach() - middle) / period + 0.5)


def find_ends(frame: Frame, cuts: Mapping[str, Cut]) -> dict[int, tuple[float, ...]]:
    """The ends e_0 … e_S of the cells along each coordinate that is cut, by its number.

    Raises:
        ProblemError: one that is given is not inside of the domain.
    """
    found = dict[int, tuple[float, ...]]()
    for name, cut in cuts.items():
        axis = frame.axes.names.index(name)
        a, b = frame.region.bounds[axis]
        if isinstance(cut, int):
            inner = [a + k * (b - a) / cut for k in range(1, cut)]
        else:
            inner = list(cut)
        if not a < inner[0] <= inner[-1] < b:
            raise ProblemError(
                f"{KEY}.{name} = {cut} is not allowed: places between {a:g} and {b:g}"
            )
        found[axis] = (a, *inner, b)
    return found


def reorder(term: Term, order: Tensor) -> Term:
    """A term with its samples in another order."""

    def move(rows: Tensor) -> Tensor:
        return rows.reshape(len(rows), term.samples, term.group)[:, order].flatten(1)

    weights = term.sample_weights
    return replace(
        term,
        points=move(term.points),
        normals=None if term.normals is None else move(term.normals),
        given=None if term.given is None else move(term.given),
        sample_weights=None if weights is None else weights[order],
    )


def _find_mean(numbers: tuple[int, ...]) -> float:
    return sum(numbers) / len(numbers)


def smooth_step(tau: Tensor) -> Tensor:
    """s(τ) for τ in [0, 1]: τ^(m+1) Σ_k C(m+k, k) C(2m+1, m-k) (-τ)^k."""
    m = SMOOTHNESS
    total = torch.zeros_like(tau)
    for k in reversed(range(m + 1)):
        total = total * tau + (-1) ** k * math.comb(m + k, k) * math.comb(2 * m + 1, m - k)
    return total * tau ** (m + 1)
