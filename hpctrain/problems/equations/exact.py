"""Forms of the solution that meet conditions for every network: u = G + D·N, and periodic inputs.

D is zero on the pieces of the boundary where values are given, twice so where their derivative
along time is given too; G takes the values there, see `lifting`.

Source: N. Sukumar, A. Srivastava, Computer Methods in Applied Mechanics and Engineering 389 (2022).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpctrain.problems.equations.ansatz import Function
from hpctrain.problems.equations.checks.guard import guard, locate
from hpctrain.problems.equations.conditions import Periodic
from hpctrain.problems.equations.conditions.base import (
    Frame,
    Given,
    Where,
    choose_points,
    evaluate,
    place_points_on,
    select_pieces,
    split_name,
)
from hpctrain.problems.equations.conditions.boundary import Exactable
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import TIME, At, Axes
from hpctrain.problems.equations.geometry import Box, Geometry, Piece
from hpctrain.problems.equations.geometry.base import Difference, Product, Union
from hpctrain.problems.equations.geometry.sampling import place_cube_points, place_interior_points
from hpctrain.problems.equations.lifting import Held, Value, make_lifting, meets_all, multiply
from hpctrain.problems.equations.slopes import (
    Slope,
    check_distance,
    flatten_distance,
    lift_slopes,
    list_slopes,
)
from hpctrain.problems.equations.terms import ProblemError, check_values

# Points on each condition's part of the boundary, and inside, where forms are tried out.
_POINTS = 200
# Points that are as near to a piece as this part of the extent are on it.
_NEAR = 1e-9
# Values at a corner contradict each other where they differ by this part of their size elsewhere.
_APART = 1e-6


@dataclass(frozen=True)
class FieldForm:
    """G and D of a field, as functions of points (d, N) that give (N,).

    Attributes:
        place: what messages call them.
        written: the method of the class that gives them; None where they are made from conditions.
    """

    lifting: Function
    distance: Function
    place: str
    written: Any = None

    @property
    def is_written(self) -> bool:
        return self.written is not None


def make_exact_forms(equations: Equations) -> dict[str, FieldForm]:
    """The forms of those fields that have one, written by the class or made from its conditions.

    Raises:
        ProblemError: a condition cannot be met exactly as it is stated.
    """
    written = _make_written_forms(equations)
    made = {}
    for field in equations.fields:
        values, slopes = list(_values(equations, field)), list(list_slopes(equations, field))
        if field in written:
            if slopes:
                raise ProblemError(
                    f"{slopes[0].frame.title}: {slopes[0].name}: exact = True is not allowed for"
                    f" {field}, whose form ansatz() gives"
                )
        elif values or any(slope.given != 0 for slope in slopes):
            made[field] = _form(equations, field, values, slopes)
    return written | made


def list_periodic_inputs(equations: Equations) -> list[Periodic]:
    """The conditions that the network's inputs meet."""
    exact = (c for c in equations.conditions if isinstance(c, Periodic) and c.exact)
    return list(exact)


def _make_written_forms(equations: Equations) -> dict[str, FieldForm]:
    frame = equations.frame
    probe = place_interior_points(frame.region, 2)
    title = f"{frame.title}.ansatz"
    ansatz = guard(equations.ansatz, title)
    written = ansatz(At(frame.axes, probe))
    if not isinstance(written, dict) or not set(written) <= set(frame.fields):
        raise ProblemError(
            f"{title} returned {written!r}: it must be a mapping of fields"
            f" ({', '.join(frame.fields)}) to pairs (G, D)"
        )
    for field, pair in written.items():
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise ProblemError(f"{title}: {field} is {pair!r}: it must be a pair (G, D)")

    place = locate(title, equations.ansatz)

    def part(field: str, number: int) -> Function:
        def function(points: Tensor) -> Tensor:
            pair = ansatz(At(frame.axes, points))[field]
            return check_values(pair[number], points[0], f"{place}: {'GD'[number]} of {field}")

        return function

    return {
        field: FieldForm(part(field, 0), part(field, 1), place, equations.ansatz)
        for field in written
    }


def _values(equations: Equations, field: str) -> Iterator[Value]:
    """What the exact conditions say of a field."""
    frame = equations.frame
    for name, condition in equations.named_conditions.items():
        if not (isinstance(condition, Exactable) and condition.exact):
            continue
        given = {split_name(key)[1]: value for key, value in condition.values.items()
                 if split_name(key)[0] == field}  # fmt: skip
        if not given:
            continue
        place = f"{frame.title}: {name}"
        if "" not in given or not set(given) <= {"", TIME}:
            raise ProblemError(
                f"{place}: exact conditions give {field}, and perhaps {field}.{TIME}: here"
                f" {', '.join(condition.values)}"
            )
        pieces = _whole_pieces(condition.on, frame, place)
        is_whole = condition.on is None
        yield Value(name, given[""], given.get(TIME), pieces, is_whole)


def _whole_pieces(on: Any, frame: Frame, place: str) -> tuple[Piece, ...]:
    """The pieces that a choice takes, each as a whole.

    Raises:
        ProblemError: it takes a part of one.
    """
    if isinstance(on, Mapping):
        raise ProblemError(
            f"{place}: on = {dict(on)}: exact conditions hold on pieces of the boundary, take"
            " exact = False"
        )
    pieces = select_pieces(on, frame, place)
    if rough := [piece.name for piece in pieces if not piece.is_smooth]:
        raise ProblemError(
            f"{place}: exact conditions need a smooth distance, which the mesh of {rough[0]} does"
            " not have: take exact = False"
        )
    if not callable(on):
        return tuple(pieces)
    chosen = []
    for piece in pieces:
        patch = piece.map(place_cube_points(piece.parameters, _POINTS))
        mask = choose_points(on, patch, frame, place)[patch.holds]
        if bool(mask.any()) and not bool(mask.all()):
            raise ProblemError(
                f"{place}: on(at) takes a part of {piece.name}: exact conditions hold on whole"
                " pieces, take exact = False"
            )
        if bool(mask.any()):
            chosen.append(piece)
    return tuple(chosen)


def _form(
    equations: Equations, field: str, values: Sequence[Value], slopes: Sequence[Slope]
) -> FieldForm:
    frame = equations.frame
    place = f"{frame.title}: the exact form of {field}"
    distances = [_distance(value, frame, slopes) for value in values]

    def distance(points: Tensor) -> Tensor:
        total = torch.ones_like(points[0])
        for value, phi in zip(values, distances, strict=True):
            each = phi(points)
            total = total * (each if value.slope is None else each**2)
        return total

    check_distance(distance, slopes, place)
    parts = _place_points(values, frame)
    held = [Held(*each) for each in zip(values, distances, parts, strict=True)]
    lifting = make_lifting(held, frame, place) if held else _make_zero
    if slopes:
        lifting = lift_slopes(lifting, slopes, lambda g: meets_all(g, held, frame), place)
    return FieldForm(lifting, distance, place)


def _make_zero(points: Tensor) -> Tensor:
    return torch.zeros_like(points[0])


def _place_points(values: Sequence[Value], frame: Frame) -> list[Tensor]:
    """Points (d, N) where each of the conditions holds."""
    return [
        place_points_on(_of(value, frame), frame, f"{frame.title}: {value.name}", _POINTS)[0]
        for value in values
    ]


def _distance(value: Value, frame: Frame, slopes: Sequence[Slope]) -> Function:
    """φ of the pieces of a condition together."""
    space = list(_find_space(frame.region, frame.axes))
    has_time = any(TIME in factor.axes for _, factor in space)
    if value.whole and not has_time and any(_is_joined(factor) for _, factor in space):
        return lambda points: multiply(factor.distance(points[rows]) for rows, factor in space)
    single = {piece: flatten_distance(piece, slopes) for piece in value.pieces}
    edges = [piece for piece in value.pieces if "." in piece.name and _is_edge(piece)]

    def phi(points: Tensor) -> Tensor:
        total = torch.ones_like(points[0])
        for piece in value.pieces:
            if piece not in edges:
                total = total * single[piece](points)
        if edges:  # of a polygon: joined, so that many of them do not flatten the product
            total = total / sum(1 / edge.distance(points) for edge in edges)
        return total

    return phi


def _is_edge(piece: Piece) -> bool:
    return piece.name.rpartition(".")[2].isdigit()


def _find_space(region: Geometry, axes: Axes, first: int = 0) -> Iterator[tuple[slice, Geometry]]:
    """The factors of a product but time and inputs, each with the rows of its coordinates."""
    last = first + len(region.axes)
    if isinstance(region, Product):
        middle = first + len(region.first.axes)
        yield from _find_space(region.first, axes, first)
        yield from _find_space(region.second, axes, middle)
    elif not set(region.axes) <= {TIME, *axes.inputs}:
        yield slice(first, last), region


def _is_joined(geometry: Geometry) -> bool:
    """Whether some parts are united, or make a hole together: a piece of one may be inside then."""
    has_joined_hole = isinstance(geometry, Difference) and bool(geometry.second.parts)
    is_joined = isinstance(geometry, Union) or has_joined_hole
    return is_joined or any(map(_is_joined, geometry.parts))


def _of(value: Value, frame: Frame) -> Any:
    """A choice of points on the pieces of a value."""
    names = {piece.name for piece in value.pieces}
    if len(names) == 1:
        return names.pop()
    measure = [piece.distance for piece in value.pieces]
    extent = max(high - low for low, high in frame.region.bounds)
    return lambda at: torch.stack([d(at.all).abs() for d in measure]).amin(0) <= _NEAR * extent


def describe_corners(equations: Equations) -> Iterator[str]:
    """A warning for each pair of conditions that give a field other values where they meet."""
    frame = equations.frame
    stated = [
        (name, condition, key, given)
        for name, condition in equations.named_conditions.items()
        if isinstance(condition, Exactable) and not callable(condition.on)
        for key, given in condition.values.items()
    ]
    for k, (name, condition, key, given) in enumerate(stated):
        for other, second, key2, given2 in stated[k + 1 :]:
            if key != key2:
                continue
            found = _disagreement(key, (condition.on, given), (second.on, given2), frame)
            if found is not None:
                x, one, two = found
                yield (
                    f"{frame.title}: at {frame.axes.describe(x)} {name} gives {key} = {one:.6g} and"
                    f" {other} gives {two:.6g}: no smooth solution has both"
                )


def _disagreement(
    key: str, first: tuple[Where, Given], second: tuple[Where, Given], frame: Frame
) -> tuple[Tensor, float, float] | None:
    """A common point of two parts of the boundary of a box at which values of `key` differ."""
    if not isinstance(frame.region, Box):
        return None
    (on, given), (on2, given2) = first, second
    for piece in select_pieces(on, frame, ""):
        anywhere = At(frame.axes, piece.map(place_cube_points(piece.parameters, _POINTS)).points)
        size = max(float(evaluate(g, anywhere, key).abs().max()) for g in (given, given2))
        for other in select_pieces(on2, frame, ""):
            points = piece.map(_cube_corners(piece.parameters)).points
            points = points[:, other.distance(points).abs() == 0]
            if not points.shape[1]:
                continue
            at = At(frame.axes, points)
            one, two = (evaluate(g, at, key) for g in (given, given2))
            far = (one - two).abs() > _APART * size
            if bool(far.any()):
                j = int(far.nonzero()[0])
                return points[:, j], float(one[j]), float(two[j])
    return None


def _cube_corners(parameters: int) -> Tensor:
    few = min(parameters, 10)
    bits = torch.arange(2**few, device="cpu")[None] >> torch.arange(few, device="cpu")[:, None] & 1
    rest = torch.zeros(parameters - few, 2**few, dtype=torch.float64, device="cpu")
    return torch.cat([bits.double(), rest])
