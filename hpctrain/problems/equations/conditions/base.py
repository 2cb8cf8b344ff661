"""What every condition is: a term of the loss, or a property of the form of the solution."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hpctrain.problems.equations.checks.guard import guard
from hpctrain.problems.equations.fields import TIME, At, Axes, Field
from hpctrain.problems.equations.geometry.base import Geometry, GeometryError, Patch, Piece
from hpctrain.problems.equations.geometry.sampling import (
    Cube,
    draw_enough,
    place_boundary_points,
    place_cube_points,
)
from hpctrain.problems.equations.given import is_number
from hpctrain.problems.equations.terms import ProblemError, Term, check_values

# A number, or a function of the points that gives (N,).
Given = float | Callable[[At], Any]
# Names of boundary pieces, a function that says which points are meant, or fixed coordinates.
Where = str | Sequence[str] | Callable[[At], Any] | Mapping[str, float] | None


@dataclass(frozen=True)
class Frame:
    """Where conditions are stated.

    Attributes:
        title: the name of the class of equations, for messages.
        axes: names of coordinates and inputs.
        region: the geometry, times the ranges of the inputs.
        fields, unknowns: their names.
        cube: the evenly distributed points of unit cubes of which all others are made.
    """

    title: str
    axes: Axes
    region: Geometry
    fields: tuple[str, ...]
    unknowns: tuple[str, ...] = ()
    cube: Cube = place_cube_points


@dataclass(frozen=True, kw_only=True)
class AnyCondition(ABC):
    """A condition, which makes its term w mean_j Σ_i r_ij² of the loss.

    Attributes:
        kind: names it in messages.
        weight: w.
        points: how many; by default the job's `problem.condition_points`.
        name: in messages and results.
    """

    kind: ClassVar[str]
    weight: float = 1.0
    points: int | None = None
    name: str = ""

    def count_points(self, otherwise: int) -> int:
        """How many, where the condition itself may name no number."""
        return int(self.points or otherwise)

    @property
    def is_exact(self) -> bool:
        """Whether it is asked to hold for every θ."""
        return False

    @property
    def written(self) -> Any:
        """A function of the user's in it, for its place; the condition where there is none."""
        return self

    @abstractmethod
    def check(self, frame: Frame, place: str) -> None:
        """Raises a ProblemError, which starts with `place`, where the condition is impossible."""

    @abstractmethod
    def make_term(self, frame: Frame, name: str, points: int) -> Term:
        """The term of the loss, with so many points where the condition itself names no number."""


def evaluate(given: Given, at: At, name: str) -> Any:
    """A given value as (N,) numbers; `name` says of what."""
    return check_values(given(at) if callable(given) else given, at.all[0], f"the value of {name}")


def find_function(given: Iterable[Any], otherwise: Any) -> Any:
    """The first function among what a user gave."""
    return next((each for each in given if callable(each)), otherwise)


def split_name(name: str) -> tuple[str, str]:
    """("u", "t") of "u.t"; ("u", "") of "u"."""
    title, _, path = name.partition(".")
    return title, path


def read_derivative(fields: Mapping[str, Field], name: str) -> Any:
    """Of "u.t"."""
    title, path = split_name(name)
    return getattr(fields[title], path) if path else fields[title].value


def check_mapping(values: Any, frame: Frame, place: str, derivatives: bool) -> None:
    """Whether values are given for fields that exist, or for derivatives of theirs.

    Raises:
        ProblemError: see `AnyCondition.check`.
    """
    if not isinstance(values, Mapping) or not values:
        raise ProblemError(
            f"{place} is given {values!r}: it must be a mapping such as"
            f' {{"{frame.fields[0]}": 0.0}}'
        )
    for name, given in values.items():
        check_field(name, frame, place, derivatives)
        if not (callable(given) or is_number(given)):
            raise ProblemError(f"{place}: {name} = {given!r} must be a number or a function of at")


def check_field(name: str, frame: Frame, place: str, derivatives: bool) -> None:
    title, path = split_name(str(name))
    if title not in frame.fields:
        raise ProblemError(f"{place} names {name!r}: the fields are {', '.join(frame.fields)}")
    if path and not (derivatives and frame.axes.index(path)):
        along = ", ".join(frame.axes.coordinates)
        allowed = f"fields and their derivatives along {along}" if derivatives else "fields alone"
        raise ProblemError(f"{place} names {name!r}: it takes {allowed}, such as {title!r}")


def select_pieces(on: Where, frame: Frame, place: str) -> list[Piece]:
    """The pieces of the boundary among which a choice is made; none where coordinates are fixed.

    Raises:
        ProblemError: no piece has the name.
    """
    if isinstance(on, Mapping):
        _check_fixed(on, frame, place)
        return []
    others = {f"{name}.{end}" for name in frame.axes.inputs for end in ("low", "high")}
    pieces = [piece for piece in frame.region.pieces if piece.name not in others]
    if callable(on):
        return pieces
    if on is None:
        return [piece for piece in pieces if piece.name not in (f"{TIME}.low", f"{TIME}.high")]
    if not isinstance(on, Sequence):
        raise ProblemError(
            f"{place}: on = {on!r} is not allowed: names of pieces of the boundary, a function of"
            f' at, or fixed coordinates such as {{"{frame.axes.names[0]}": 0.0}}'
        )
    chosen: list[Piece] = []
    for name in [on] if isinstance(on, str) else on:
        named = [each for each in pieces if f"{each.name}.".startswith(f"{name}.")]
        if not named:
            known = ", ".join(dict.fromkeys(piece.name for piece in pieces))
            raise ProblemError(f"{place}: on = {name!r} is no part of the boundary: it has {known}")
        chosen += [each for each in named if each not in chosen]
    return chosen


def place_points_on(
    on: Where, frame: Frame, place: str, count: int
) -> tuple[Tensor, Tensor | None]:
    """Points (d, N) of a part of the boundary, and normals (d, N); none for fixed coordinates."""
    pieces = select_pieces(on, frame, place)
    if isinstance(on, Mapping):
        points = _place_fixed_points(on, frame, place, count)
        return points, None

    def choose(patch: Patch) -> Tensor:
        if not callable(on):
            return patch.holds
        return choose_points(on, patch, frame, place)

    what = f"{place}: on = {on!r} is no part of the boundary"
    if callable(on):
        what = f"{place}: on(at) is true at no point of the boundary"
    return place_boundary_points(pieces, count, choose, what, frame.cube)


def choose_points(on: Callable[[At], Any], patch: Patch, frame: Frame, place: str) -> Tensor:
    """Which points of a patch a function of `at` takes, (N,).

    Raises:
        ProblemError: it fails, or gives no truth values.
    """
    mask = guard(on, f"{place}: on")(At(frame.axes, patch.points, patch.normals))
    is_mask = isinstance(mask, Tensor) and mask.dtype == torch.bool
    if not (is_mask and mask.shape == patch.holds.shape):
        raise ProblemError(
            f"{place}: on(at) must give one truth value for each point, such as"
            f" at.{frame.axes.names[-1]} > 0"
        )
    return mask


def _check_fixed(on: Mapping[str, float], frame: Frame, place: str) -> None:
    bounds = dict(zip(frame.axes.names, frame.region.bounds, strict=True))
    for name, value in on.items():
        low, high = bounds.get(name, (1.0, 0.0))
        if not (is_number(value) and low <= value <= high):
            ranges = ", ".join(f"{key} from {a:g} to {b:g}" for key, (a, b) in bounds.items())
            raise ProblemError(f"{place}: on = {dict(on)} is not allowed: {ranges}")


def _place_fixed_points(on: Mapping[str, float], frame: Frame, place: str, count: int) -> Tensor:
    """Points of the region with some coordinates fixed: one where all of them are."""
    free = [name for name in frame.axes.names if name not in on]
    bounds = list(zip(frame.axes.names, frame.region.bounds, strict=True))

    def draw(tried: int) -> Tensor:
        rows = dict(zip(free, frame.cube(len(free), tried), strict=True))

        def row(name: str, low: float, high: float) -> Tensor:
            if name in rows:
                return low + (high - low) * rows[name]
            return torch.full((tried,), float(on[name]), dtype=torch.float64, device="cpu")

        points = torch.stack([row(name, *pair) for name, pair in bounds])
        return points[:, frame.region.contains(points)]

    what = f"{place}: on = {dict(on)} is not in the geometry"
    count, first = (count, 4 * count) if free else (1, 1)
    try:
        return draw_enough(draw, count, what, first)
    except GeometryError as error:
        raise ProblemError(what) from error


def tell_names_apart(names: Iterator[str]) -> Iterator[str]:
    """The names, with a number behind each that comes again."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} {seen[name]}"
