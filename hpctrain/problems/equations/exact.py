"""Forms of the solution that meet conditions for every network: u = G + D·N, and periodic inputs.

D is zero on the pieces of the boundary where values are given, twice so where their derivative
along time is given too; G takes the values there. G is the given function of one condition where it
meets the others as well, and else the blend of all of them by the distances φ of their pieces,

    G = Σ_i w_i g_i / Σ_i w_i,   w_i = Π_{j≠i} φ_j².

Source: N. Sukumar, A. Srivastava, Computer Methods in Applied Mechanics and Engineering 389 (2022).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpctrain.problems.equations.ansatz import Function, evaluate_jets
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
from hpctrain.problems.equations.fields import TIME, At, Axes, Component
from hpctrain.problems.equations.geometry import Box, Geometry, Piece
from hpctrain.problems.equations.geometry.base import Difference, Product, Union
from hpctrain.problems.equations.geometry.sampling import place_cube_points, place_interior_points
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
# Values that differ by this part of their size agree.
_EQUAL = 1e-9
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


@dataclass(frozen=True)
class _Value:
    """What one exact condition says of one field.

    Attributes:
        name: of the condition.
        given: the value.
        slope: its derivative along time, where that is given.
        pieces: where.
        whole: it is all of the boundary in space.
    """

    name: str
    given: Given
    slope: Given | None
    pieces: tuple[Piece, ...]
    whole: bool

    def function(self, frame: Frame) -> Function:
        """g, beyond its pieces too: value + (t - t₀) slope."""

        def g(points: Tensor) -> Tensor:
            at = At(frame.axes, points)
            value = self._evaluate(self.given, at)
            if self.slope is None:
                return value
            time = frame.axes.coordinates.index(TIME)
            since = points[time] - frame.region.bounds[time][0]
            return value + since * self._evaluate(self.slope, at)

        return g

    def _evaluate(self, given: Given, at: At) -> Tensor:
        if not callable(given):
            return evaluate(given, at, self.name)
        title = f"the value of {self.name}"
        values = guard(given, title)(at)
        return check_values(values, at.all[0], locate(title, given))


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


def _values(equations: Equations, field: str) -> Iterator[_Value]:
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
        yield _Value(name, given[""], given.get(TIME), pieces, is_whole)


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
    equations: Equations, field: str, values: Sequence[_Value], slopes: Sequence[Slope]
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

    def meets(g: Function) -> bool:
        return all(_meets(g, *pair, frame) for pair in zip(values, parts, strict=True))

    lifting: Function = _make_zero
    if values:
        lifting = _make_lifting(values, distances, parts, meets, frame, place)
    if slopes:
        lifting = lift_slopes(lifting, slopes, meets, place)
    return FieldForm(lifting, distance, place)


def _make_zero(points: Tensor) -> Tensor:
    return torch.zeros_like(points[0])


def _place_points(values: Sequence[_Value], frame: Frame) -> list[Tensor]:
    """Points (d, N) where each of the conditions holds."""
    return [
        place_points_on(_of(value, frame), frame, f"{frame.title}: {value.name}", _POINTS)[0]
        for value in values
    ]


def _distance(value: _Value, frame: Frame, slopes: Sequence[Slope]) -> Function:
    """φ of the pieces of a condition together."""
    space = list(_find_space(frame.region, frame.axes))
    has_time = any(TIME in factor.axes for _, factor in space)
    if value.whole and not has_time and any(_is_joined(factor) for _, factor in space):
        return lambda points: _product(factor.distance(points[rows]) for rows, factor in space)
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


def _make_lifting(
    values: Sequence[_Value],
    distances: Sequence[Function],
    parts: Sequence[Tensor],
    meets: Callable[[Function], bool],
    frame: Frame,
    place: str,
) -> Function:
    """One of the given functions if it meets all conditions, else their blend.

    Args:
        parts: points (d, N) where each of them holds.
        meets: whether a function meets all of them there.
    """
    functions = [value.function(frame) for value in values]
    by_size = sorted(functions, key=lambda g: -max(float(g(x).abs().max()) for x in parts))
    for g in by_size:
        if meets(g):
            return g

    def blend(points: Tensor) -> Tensor:
        squares = [phi(points) ** 2 for phi in distances]
        weights = [_product(s for j, s in enumerate(squares) if j != i) for i in range(len(values))]
        total = sum(weights)
        # Where several meet, at corners, all weights vanish: there the conditions agree.
        safe = torch.where(total == 0, torch.ones_like(total), total)
        blended = sum(w * g(points) for w, g in zip(weights, functions, strict=True)) / safe
        return torch.where(total == 0, functions[0](points), blended)

    for value, x in zip(values, parts, strict=True):
        if not _meets(blend, value, x, frame):
            raise ProblemError(
                f"{place} cannot be made: the values of {value.name} are not met by a blend of"
                f" {', '.join(v.name for v in values)}; write ansatz(), or take exact = False"
            )
    return blend


def _of(value: _Value, frame: Frame) -> Any:
    """A choice of points on the pieces of a value."""
    names = {piece.name for piece in value.pieces}
    if len(names) == 1:
        return names.pop()
    measure = [piece.distance for piece in value.pieces]
    extent = max(high - low for low, high in frame.region.bounds)
    return lambda at: torch.stack([d(at.all).abs() for d in measure]).amin(0) <= _EQUAL * extent


def _meets(g: Function, value: _Value, points: Tensor, frame: Frame) -> bool:
    """Whether g takes the values, and the slope along time, at points of the condition's part."""
    indices: list[Component] = [()]
    if value.slope is not None:
        indices.append((frame.axes.coordinates.index(TIME),))
    try:
        ours, theirs = (
            evaluate_jets(f, points, indices, (), "") for f in (g, value.function(frame))
        )
    except ProblemError:
        return False
    sizes = {index: float(theirs[index].abs().max()) or 1.0 for index in indices}
    return all(float((ours[i] - theirs[i]).abs().max()) <= _EQUAL * sizes[i] for i in indices)


def _product(factors: Iterator[Tensor]) -> Any:
    return math.prod(factors, start=1.0)


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
