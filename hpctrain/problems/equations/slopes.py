"""Exact Neumann conditions on sides of a box: inputs of a network that have no slope there.

With ξ = (x − a)/(b − a) a network takes, in the place of x,

    cos ω and sin³ ω,   ω = π ξ for both ends, π ξ/2 for x = a alone, π (1 − ξ)/2 for x = b alone.

Both have the slope 0 at these ends, and so has all that is made of them. Nothing else is lost: at
an end they begin with ω² and ω³, which generate all powers but the first, while cosines alone would
take away all odd derivatives. A derivative g along the outward normal that is not 0 is that of

    −Σ g s (1 − s/L)²,   s = x − a or b − x, the distance from the end, L = b − a,

in G, beside what other conditions give; D, which is 0 where values are given, has no slope either.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hpctrain.problems.equations.ansatz import Function, evaluate_jets
from hpctrain.problems.equations.checks.guard import guard, locate
from hpctrain.problems.equations.conditions import Neumann, Periodic
from hpctrain.problems.equations.conditions.base import Frame, Given, evaluate, select_pieces
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import TIME, At, Component
from hpctrain.problems.equations.geometry import Piece
from hpctrain.problems.equations.geometry.sampling import place_cube_points
from hpctrain.problems.equations.terms import ProblemError, check_values

ENDS = ("low", "high")
# Points on a side at which slopes are compared, and by what part of their size they may differ.
_POINTS, _EQUAL = 200, 1e-9


@dataclass(frozen=True)
class FlatEnds:
    """What a network takes in the place of a coordinate, without slope at one end or both.

    Attributes:
        along: the coordinate.
        ends: "low", "high" or both.
    """

    along: str
    ends: tuple[str, ...]

    @property
    def count(self) -> int:
        """Numbers that the network takes."""
        return 2

    def inputs(self, x: Tensor, low: float, high: float) -> list[Tensor]:
        """They in the place of x (N,)."""
        xi = (x - low) / (high - low)
        omega = math.pi * xi if self.ends == ENDS else math.pi / 2 * xi
        if self.ends == ("high",):
            omega = math.pi / 2 * (1 - xi)
        return [torch.cos(omega), torch.sin(omega) ** 3]

    def base(self, x: Tensor, low: float, high: float) -> Tensor:
        """The cosine."""
        return self.inputs(x, low, high)[0]

    def admit(self, frequencies: Tensor) -> Tensor:
        """All of them."""
        return frequencies


@dataclass(frozen=True)
class Slope:
    """What an exact condition says of the slope of a field at one end of a coordinate.

    Attributes:
        name: of the condition.
        frame: the equations'.
        along: the number of the coordinate.
        end: "low" or "high".
        piece: of the boundary, there.
        given: the derivative along the outward normal.
    """

    name: str
    frame: Frame
    along: int
    end: str
    piece: Piece
    given: Given

    @property
    def sign(self) -> int:
        """Of the outward normal."""
        return 1 if self.end == "high" else -1

    def points(self) -> Tensor:
        """Points (d, N) of the side that belong to the boundary."""
        patch = self.piece.map(place_cube_points(self.piece.parameters, _POINTS))
        return patch.points[:, patch.holds]

    def evaluate(self, points: Tensor, at_start: bool = False) -> Tensor:
        """The slope (N,) at what lies beside points (d, N) on the side; at the first time, too."""
        axes, bounds = self.frame.axes, self.frame.region.bounds
        rows = list(points)
        rows[self.along] = torch.full_like(points[0], bounds[self.along][self.end == "high"])
        if at_start:
            time = axes.coordinates.index(TIME)
            rows[time] = torch.full_like(points[0], bounds[time][0])
        normals = torch.zeros_like(points)
        normals[self.along] = self.sign
        at = At(axes, torch.stack(rows), normals)
        if not callable(self.given):
            return evaluate(self.given, at, self.name)
        title = f"the slope of {self.name}"
        return check_values(guard(self.given, title)(at), points[0], locate(title, self.given))

    def lift(self, points: Tensor, since_start: bool) -> Tensor:
        """−g s (1 − s/L)² (N,), or the same of g − g₀ with the slope g₀ of the first time."""
        low, high = self.frame.region.bounds[self.along]
        xi = (points[self.along] - low) / (high - low)
        inward = xi if self.end == "low" else 1 - xi
        slope = self.evaluate(points)
        if since_start:
            slope = slope - self.evaluate(points, at_start=True)
        return -(high - low) * inward * (1 - inward) ** 2 * slope

    def differentiate(self, function: Function, points: Tensor) -> Tensor:
        """The derivative (N,) of a function along the outward normal."""
        components: list[Component] = [(), (self.along,)]
        jets = evaluate_jets(function, points, components, (), self.name)
        return self.sign * jets[self.along,]


def list_slopes(equations: Equations, field: str) -> Iterator[Slope]:
    """Yields what the exact Neumann conditions say of a field.

    Raises:
        ProblemError: one is not on whole sides of a box, or on a periodic coordinate.
    """
    frame = equations.frame
    for name, condition in equations.named_conditions.items():
        if not (isinstance(condition, Neumann) and condition.exact and field in condition.values):
            continue
        place = f"{frame.title}: {name}"
        for piece in _select_sides(condition, frame, place):
            along, _, end = piece.name.partition(".")
            wound = (c for c in equations.conditions if isinstance(c, Periodic) and c.exact)
            if along in {each.along for each in wound}:
                raise ProblemError(f"{place}: exact = True on {piece.name}: {along} is periodic")
            number = frame.axes.coordinates.index(along)
            yield Slope(name, frame, number, end, piece, condition.values[field])


def _select_sides(condition: Neumann, frame: Frame, place: str) -> Sequence[Piece]:
    """The sides of a box that a condition takes."""
    sides = {f"{each}.{end}" for each in frame.axes.coordinates for end in ENDS}
    if not (callable(condition.on) or isinstance(condition.on, Mapping)):
        pieces = select_pieces(condition.on, frame, place)
        if all(piece.name in sides and _is_end(piece, frame) for piece in pieces):
            return pieces
    known = [piece.name for piece in frame.region.pieces if piece.name in sides]
    raise ProblemError(
        f"{place}: exact = True needs whole sides of a box by their names"
        f" ({', '.join(known) or 'there are none'}): take exact = False"
    )


def _is_end(piece: Piece, frame: Frame) -> bool:
    """Whether a side lies at an end of all of the geometry."""
    along, _, end = piece.name.partition(".")
    number = frame.axes.coordinates.index(along)
    x = piece.map(place_cube_points(piece.parameters, _POINTS)).points[number]
    return bool((x == frame.region.bounds[number][end == "high"]).all())


def find_flat_ends(equations: Equations, field: str) -> tuple[FlatEnds, ...]:
    """What a field's network takes in the place of coordinates, so that exact slopes hold."""
    by_axis: dict[int, set[str]] = {}
    for slope in list_slopes(equations, field):
        by_axis.setdefault(slope.along, set()).add(slope.end)
    names = equations.frame.axes.coordinates
    return tuple(
        FlatEnds(names[along], tuple(end for end in ENDS if end in by_axis[along]))
        for along in sorted(by_axis)
    )


def flatten_distance(piece: Piece, slopes: Sequence[Slope]) -> Function:
    """The distance (N,) from a side, without slope at the opposite one if a slope is given there.

    s − s²/(2 L) has the slope 0 at s = L.
    """
    along, _, end = piece.name.partition(".")
    for slope in slopes:
        names, bounds = slope.frame.axes.coordinates, slope.frame.region.bounds
        if names[slope.along] == along and slope.end != end:
            low, high = bounds[slope.along]
            return partial(_bend, piece.distance, high - low)
    return piece.distance


def _bend(distance: Function, length: float, points: Tensor) -> Tensor:
    s = distance(points)
    return s - s**2 / (2 * length)


def check_distance(distance: Function, slopes: Sequence[Slope], place: str) -> None:
    """Refuses a D that has a slope where slopes are given."""
    for slope in slopes:
        points = slope.points()
        size = float(distance(points).abs().max()) or 1.0
        if float(slope.differentiate(distance, points).abs().max()) > _EQUAL * size:
            raise ProblemError(
                f"{place} cannot be made: D, which is 0 where values are given, has a slope at"
                f" {slope.piece.name}, where {slope.name} gives one; take exact = False there"
            )


def lift_slopes(
    G: Function, slopes: Sequence[Slope], meets: Callable[[Function], bool], place: str
) -> Function:
    """G with the slopes that are given, by what is added to it.

    Args:
        slopes: one or more.
        meets: whether a function meets the values of other conditions.
        place: what messages call it.

    Raises:
        ProblemError: neither it nor anything that is tried has both.
    """

    def add(since_start: bool, points: Tensor) -> Tensor:
        return G(points) + sum(slope.lift(points, since_start) for slope in slopes)

    tried: list[Function] = [G, partial(add, False)]
    if TIME in slopes[0].frame.axes.coordinates:
        tried.append(partial(add, True))
    for function in tried:
        if meets(function) and all(_has_slope(function, slope) for slope in slopes):
            return function
    names = ", ".join(dict.fromkeys(slope.name for slope in slopes))
    raise ProblemError(
        f"{place} cannot be made: no form has the values that are given and the slopes of {names};"
        " take exact = False for these"
    )


def _has_slope(function: Function, slope: Slope) -> bool:
    points = slope.points()
    wanted = slope.evaluate(points)
    found = slope.differentiate(function, points)
    low, high = slope.frame.region.bounds[slope.along]
    size = max(float(wanted.abs().max()), float(function(points).abs().max()) / (high - low))
    return float((found - wanted).abs().max()) <= _EQUAL * (size or 1.0)
