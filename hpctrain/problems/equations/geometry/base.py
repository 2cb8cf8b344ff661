"""What a geometry is: an inside, smooth distances, and the pieces of its boundary; set operations.

Distances of parts are combined by R-functions (`intersect`, `unite`).

Sources: V. L. Rvachev's R-functions, in V. Shapiro, Semi-analytic geometry with R-functions, Acta
Numerica 16 (2007), 239-303; N. Sukumar, A. Srivastava, Computer Methods in Applied Mechanics and
Engineering 389 (2022) 114333.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from hpctrain.errors import UserCodeError

Bounds = tuple[tuple[float, float], ...]

# What lies on either side of a boundary is looked up at this part of the extent from it.
_BESIDE = 1e-9
# Points that a user names, with few digits, may miss the geometry by this part of the extent.
_NEAR = 1e-6


class GeometryError(UserCodeError):
    """A geometry is impossible: the message names what was given and what is allowed."""


@dataclass(frozen=True)
class Patch:
    """Points of a piece of the boundary.

    Attributes:
        points: (d, N).
        normals: outward unit normals (d, N).
        holds: (N,), whether each point belongs to the boundary still, after set operations.
    """

    points: Tensor
    normals: Tensor
    holds: Tensor


@dataclass(frozen=True)
class Piece:
    """A smooth part of a boundary, as the image of a unit cube.

    Attributes:
        name: by which a condition chooses it.
        parameters: k, the dimension of the cube.
        measure: length or area, before set operations take something away.
        map: takes parameters (k, N) in the unit cube.
        distance: takes points (d, N); zero on the piece, positive inside the geometry.
        is_smooth: the distance has no kinks inside, so that exact conditions can be made of it.
    """

    name: str
    parameters: int
    measure: float
    map: Callable[[Tensor], Patch]
    distance: Callable[[Tensor], Tensor]
    is_smooth: bool = True

    def where(self, holds: Callable[[Patch], Tensor], sign: float = 1.0) -> "Piece":
        """The part at points where `holds`; with sign −1 normals and distance change sides."""

        def cut(u: Tensor) -> Patch:
            patch = self.map(u)
            return Patch(patch.points, sign * patch.normals, patch.holds & holds(patch))

        return replace(self, map=cut, distance=lambda x: sign * self.distance(x))


class Geometry(ABC):
    """A bounded region; `|`, `&`, `-` are union, intersection, difference, `*` the product.

    Attributes:
        axes: names of its coordinates.
        bounds: a pair (low, high) for each.
    """

    axes: tuple[str, ...]
    bounds: Bounds

    @property
    def parts(self) -> tuple["Geometry", ...]:
        """The geometries that it is united, cut or taken away of; none for others."""
        return ()

    @abstractmethod
    def contains(self, points: Tensor) -> Tensor:
        """Which of the points (d, N) are inside, (N,)."""

    @abstractmethod
    def distance(self, points: Tensor) -> Tensor:
        """Zero on the boundary, positive inside, smooth but at corners, (N,)."""

    @property
    @abstractmethod
    def pieces(self) -> tuple[Piece, ...]:
        """The boundary."""

    def find_pieces(self, window: Bounds) -> tuple[Piece, ...]:
        """The boundary where only what lies in a window counts, for those that have no bounds."""
        return self.pieces

    def find_outside(self, points: Tensor) -> Tensor:
        """Which of a user's points (d, N) lie outside, by more than their rounding, (N,)."""
        extent = max(high - low for low, high in self.bounds)
        return ~self.contains(points) & (self.distance(points).abs() > _NEAR * extent)

    def __or__(self, other: "Geometry") -> "Geometry":
        return Union(self, other)

    def __and__(self, other: "Geometry") -> "Geometry":
        return Intersection(self, other)

    def __sub__(self, other: "Geometry") -> "Geometry":
        return Difference(self, other)

    def __mul__(self, other: "Geometry") -> "Product":
        return Product(self, other)


def intersect(distances: Sequence[Tensor]) -> Tensor:
    """a ∧ b = a + b − √(a² + b²) of distances, that of the intersection."""
    return reduce(lambda a, b: a + b - torch.sqrt(a**2 + b**2), distances)


def unite(distances: Sequence[Tensor]) -> Tensor:
    """a ∨ b = a + b + √(a² + b²) of distances, that of the union."""
    return reduce(lambda a, b: a + b + torch.sqrt(a**2 + b**2), distances)


def column(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(d, 1), beside points (d, N)."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


class _Pair(Geometry):
    """Two geometries along the same axes."""

    def __init__(self, first: Geometry, second: Geometry) -> None:
        if first.axes != second.axes:
            raise GeometryError(
                f"geometries along ({', '.join(first.axes)}) and ({', '.join(second.axes)}) cannot"
                " be combined: they need the same axes"
            )
        self.axes = first.axes
        self.first, self.second = first, second
        self.bounds = self._common_bounds(first.bounds, second.bounds)

    @property
    def parts(self) -> tuple[Geometry, ...]:
        return self.first, self.second

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.find_pieces(self.bounds)

    def find_pieces(self, window: Bounds) -> tuple[Piece, ...]:
        common = narrow(self.bounds, window)
        ours = self.first.find_pieces(common)
        others = self.second.find_pieces(common)
        return (
            *(self._cut(piece, _Sides(self.second, common)) for piece in ours),
            *(self._cut_second(piece, _Sides(self.first, common)) for piece in others),
        )

    def _common_bounds(self, first: Bounds, second: Bounds) -> Bounds:
        return first

    @abstractmethod
    def _cut(self, piece: Piece, second: "_Sides") -> Piece:
        """What is left of a piece of the first one's boundary."""

    @abstractmethod
    def _cut_second(self, piece: Piece, first: "_Sides") -> Piece:
        """What is left of one of the second's, without what lies on the boundary of the first."""


def narrow(bounds: Bounds, window: Bounds) -> Bounds:
    """What is in both; low ≥ high where they lie apart."""
    pairs = zip(bounds, window, strict=True)
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in pairs)


@dataclass(frozen=True)
class _Sides:
    """Which points of a patch have a geometry on one side, as near as rounding allows.

    On boundaries that coincide the point itself says nothing, and both sides say all.
    """

    of: Geometry
    window: Bounds

    def behind(self, patch: Patch) -> Tensor:
        """Against the normal."""
        return self.of.contains(patch.points - self._step(patch))

    def ahead(self, patch: Patch) -> Tensor:
        """Along the normal."""
        return self.of.contains(patch.points + self._step(patch))

    def _step(self, patch: Patch) -> Tensor:
        """Of the length `_BESIDE`, along the normal, where the window is the unit cube."""
        extents = column(tuple(high - low for low, high in self.window), patch.points)
        scaled = extents * patch.normals
        return _BESIDE * extents * scaled / scaled.norm(dim=0)


class Union(_Pair):
    """What is in one or the other."""

    def _common_bounds(self, first: Bounds, second: Bounds) -> Bounds:
        pairs = zip(first, second, strict=True)
        return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in pairs)

    def contains(self, points: Tensor) -> Tensor:
        return self.first.contains(points) | self.second.contains(points)

    def distance(self, points: Tensor) -> Tensor:
        return unite([self.first.distance(points), self.second.distance(points)])

    def _cut(self, piece: Piece, second: _Sides) -> Piece:
        return piece.where(lambda patch: ~second.ahead(patch))

    def _cut_second(self, piece: Piece, first: _Sides) -> Piece:
        return piece.where(lambda patch: ~first.ahead(patch) & ~first.behind(patch))


class Intersection(_Pair):
    """What is in both."""

    def _common_bounds(self, first: Bounds, second: Bounds) -> Bounds:
        common = narrow(first, second)
        if any(low >= high for low, high in common):
            raise GeometryError("an intersection is empty: its parts lie apart")
        return common

    def contains(self, points: Tensor) -> Tensor:
        return self.first.contains(points) & self.second.contains(points)

    def distance(self, points: Tensor) -> Tensor:
        return intersect([self.first.distance(points), self.second.distance(points)])

    def _cut(self, piece: Piece, second: _Sides) -> Piece:
        return piece.where(second.behind)

    def _cut_second(self, piece: Piece, first: _Sides) -> Piece:
        return piece.where(lambda patch: first.behind(patch) & first.ahead(patch))


class Difference(_Pair):
    """What is in the first and not in the second."""

    def contains(self, points: Tensor) -> Tensor:
        return self.first.contains(points) & ~self.second.contains(points)

    def distance(self, points: Tensor) -> Tensor:
        return intersect([self.first.distance(points), -self.second.distance(points)])

    def _cut(self, piece: Piece, second: _Sides) -> Piece:
        return piece.where(lambda patch: ~second.behind(patch))

    def _cut_second(self, piece: Piece, first: _Sides) -> Piece:
        return piece.where(lambda patch: first.behind(patch) & first.ahead(patch), sign=-1.0)


class Product(Geometry):
    """Points whose first coordinates are in one geometry and whose others are in another."""

    def __init__(self, first: Geometry, second: Geometry) -> None:
        if common := set(first.axes) & set(second.axes):
            raise GeometryError(
                f"a product of geometries that both have the axis {min(common)}: name the axes"
                " apart"
            )
        self.axes = (*first.axes, *second.axes)
        self.bounds = (*first.bounds, *second.bounds)
        self.first, self.second = first, second

    def contains(self, points: Tensor) -> Tensor:
        x, y = self._split(points)
        return self.first.contains(x) & self.second.contains(y)

    def distance(self, points: Tensor) -> Tensor:
        x, y = self._split(points)
        return intersect([self.first.distance(x), self.second.distance(y)])

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.find_pieces(self.bounds)

    def find_pieces(self, window: Bounds) -> tuple[Piece, ...]:
        common = narrow(self.bounds, window)
        if any(low >= high for low, high in common):
            return ()
        d = len(self.first.axes)
        one, two = common[:d], common[d:]
        ours = (self._extend(each, self.second, two, True) for each in self.first.find_pieces(one))
        others = (
            self._extend(each, self.first, one, False) for each in self.second.find_pieces(two)
        )
        return (*ours, *others)

    def _split(self, points: Tensor) -> tuple[Tensor, Tensor]:
        d = len(self.first.axes)
        return points[:d], points[d:]

    def _extend(self, piece: Piece, other: Geometry, bounds: Bounds, before: bool) -> Piece:
        """The piece of one factor's boundary times the other factor, within its bounds."""
        extents = [high - low for low, high in bounds]
        measure = piece.measure
        for extent in extents:
            measure *= extent

        def order(own: Tensor, others: Tensor) -> Tensor:
            return torch.cat((own, others) if before else (others, own))

        def map_to(u: Tensor) -> Patch:
            patch = piece.map(u[: piece.parameters])
            rows = zip(u[piece.parameters :], bounds, strict=True)
            inner = torch.stack([low + (high - low) * row for row, (low, high) in rows])
            return Patch(
                order(patch.points, inner),
                order(patch.normals, torch.zeros_like(inner)),
                patch.holds & other.contains(inner),
            )

        def distance(points: Tensor) -> Tensor:
            x, y = self._split(points)
            return piece.distance(x if before else y)

        parameters = piece.parameters + len(extents)
        return Piece(piece.name, parameters, measure, map_to, distance, piece.is_smooth)
