"""Intervals, boxes, half-spaces, disks, balls, ellipses and polygons.

Boundaries have named pieces: those of a box "x.low", "x.high", …; of any other its name.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.geometry.base import (
    Bounds,
    Geometry,
    GeometryError,
    Patch,
    Piece,
    column,
    intersect,
)
from hpctrain.problems.equations.given import are_finite, is_interval

# Chords by which the arc of an ellipse is measured.
_ARC = 4096
# Corners of a polygon that messages show.
_SHOWN = 8

Corner = tuple[float, float]


class Box(Geometry):
    """low ≤ x ≤ high along each axis: Box(x=(0, 1), y=(0, 2)).

    Args:
        name: of all its faces, in place of "x.low" and the like.
        sides: a pair (low, high) for each axis, by its name, in the order of the coordinates.
    """

    def __init__(self, name: str | None = None, /, **sides: tuple[float, float]) -> None:
        if not sides:
            raise GeometryError("Box() has no axes: it needs a pair (low, high) each, as x=(0, 1)")
        for axis, pair in sides.items():
            if not is_interval(pair):
                raise GeometryError(
                    f"Box({axis}={pair!r}): it must be a pair (low, high) of finite numbers,"
                    " low < high"
                )
        self.axes = tuple(sides)
        self.bounds = tuple((float(low), float(high)) for low, high in sides.values())
        self.name = name

    def contains(self, points: Tensor) -> Tensor:
        low, high = points.new_tensor(self.bounds).T[..., None]
        return ((low <= points) & (points <= high)).all(dim=0)

    def distance(self, points: Tensor) -> Tensor:
        pairs = zip(points, self.bounds, strict=True)
        return intersect([(x - low) * (high - x) / (high - low) for x, (low, high) in pairs])

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(self._face(i, end) for i in range(len(self.axes)) for end in (0, 1))

    def _face(self, i: int, end: int) -> Piece:
        low, high = self.bounds[i]
        others = [pair for j, pair in enumerate(self.bounds) if j != i]

        def map_to(u: Tensor) -> Patch:
            count = u.shape[1]
            a, b = u.new_tensor(others).reshape(-1, 2).T[..., None]
            fixed = u.new_full((1, count), (low, high)[end])
            moved = a + (b - a) * u
            points = torch.cat([moved[:i], fixed, moved[i:]])
            normals = torch.zeros_like(points)
            normals[i] = 2.0 * end - 1
            return Patch(points, normals, torch.ones(count, dtype=torch.bool, device=u.device))

        def distance(points: Tensor) -> Tensor:
            return points[i] - low if end == 0 else high - points[i]

        name = self.name or f"{self.axes[i]}.{('low', 'high')[end]}"
        return Piece(name, len(others), math.prod(b - a for a, b in others), map_to, distance)


def Interval(name: str | None = None, /, **side: tuple[float, float]) -> Box:  # noqa: N802
    """low ≤ x ≤ high along one axis: Interval(t=(0, 10))."""
    if len(side) != 1:
        raise GeometryError(f"Interval({', '.join(side)}): it must have one axis, as x=(0, 1)")
    return Box(name, **side)


class HalfSpace(Geometry):
    """n · (x − p) ≤ 0 with the outward normal n, to cut other shapes by `&` and `-`.

    What it cuts gives it bounds, in which its plane is a piece of the boundary.

    Args:
        point: p on the boundary plane.
        normal: n, of any length.
        axes: names of the coordinates.
        name: of the plane.
    """

    def __init__(
        self,
        point: Sequence[float],
        normal: Sequence[float],
        axes: Sequence[str] = ("x", "y"),
        name: str = "cut",
    ) -> None:
        self._title = f"HalfSpace(point={point!r}, normal={normal!r})"
        are_numbers = are_finite(point) and are_finite(normal)
        are_numbers = are_numbers and len(point) == len(normal) == len(axes)
        length = math.hypot(*normal) if are_numbers else 0.0
        if not 0 < length < math.inf:
            raise GeometryError(
                f"{self._title}: each must have a finite number for each of the axes"
                f" {', '.join(axes)}, and the normal a length"
            )
        self.axes = tuple(axes)
        self.bounds = ((-math.inf, math.inf),) * len(axes)
        self._point = tuple(map(float, point))
        self._normal = tuple(float(each) / length for each in normal)
        self._name = name

    def contains(self, points: Tensor) -> Tensor:
        return self.distance(points) >= 0

    def distance(self, points: Tensor) -> Tensor:
        offset = points - column(self._point, points)
        return -(column(self._normal, points) * offset).sum(dim=0)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.find_pieces(self.bounds)

    def find_pieces(self, window: Bounds) -> tuple[Piece, ...]:
        """The plane over that side of the window that it is steepest to, which takes least of it.

        None where it passes by.
        """
        if not all(math.isfinite(high - low) for low, high in window):
            raise GeometryError(f"{self._title} is not bounded: cut it from a box, by &")
        halves = [(high - low) / 2 for low, high in window]
        middle = torch.tensor([[low + high] for low, high in window], dtype=torch.float64) / 2
        reaches = [abs(n) * half for n, half in zip(self._normal, halves, strict=True)]
        if min(halves) <= 0 or abs(float(self.distance(middle))) > sum(reaches):
            return ()
        return (self._make_piece(reaches.index(max(reaches)), window),)

    def _make_piece(self, k: int, window: Bounds) -> Piece:
        """Where all coordinates but number k are in the window."""
        others = [pair for j, pair in enumerate(window) if j != k]

        def map_to(u: Tensor) -> Patch:
            a, b = u.new_tensor(others).reshape(-1, 2).T[..., None]
            moved, at_k = a + (b - a) * u, u.new_full((1, u.shape[1]), self._point[k])
            start = torch.cat([moved[:k], at_k, moved[k:]])
            points = start.clone()
            points[k] += self.distance(start) / self._normal[k]
            normals = column(self._normal, u).expand_as(points).clone()
            return Patch(points, normals, torch.ones(u.shape[1], dtype=torch.bool, device=u.device))

        measure = math.prod(b - a for a, b in others) / abs(self._normal[k])
        return Piece(self._name, len(others), measure, map_to, self.distance)


class Ball(Geometry):
    """|x − c| ≤ r in any dimension; φ = (r² − |x − c|²) / 2r.

    Args:
        center: c.
        radius: r.
        axes: names of the coordinates; by default x, y, z.
        name: of the boundary.
    """

    def __init__(
        self,
        center: Sequence[float],
        radius: float,
        axes: Sequence[str] | None = None,
        name: str = "sphere",
    ) -> None:
        axes = tuple(axes) if axes else ("x", "y", "z")[: len(center) if are_finite(center) else 3]
        if not (are_finite(center) and len(center) == len(axes) >= 2):
            raise GeometryError(
                f"{type(self).__name__}(center={center!r}): it must have a finite number for"
                f" each of the axes {', '.join(axes)}"
            )
        if not (are_finite([radius]) and radius > 0):
            raise GeometryError(
                f"{type(self).__name__}(radius={radius!r}): it must be a finite number above 0"
            )
        self.axes = axes
        self._center, self._radius, self._name = tuple(map(float, center)), float(radius), name
        self.bounds = tuple((c - self._radius, c + self._radius) for c in self._center)

    def contains(self, points: Tensor) -> Tensor:
        return self._square(points) <= self._radius**2

    def distance(self, points: Tensor) -> Tensor:
        return (self._radius**2 - self._square(points)) / (2 * self._radius)

    def _square(self, points: Tensor) -> Tensor:
        return (points - column(self._center, points)).square().sum(dim=0)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        d, r = len(self._center), self._radius
        measure = 2 * math.pi ** (d / 2) / math.gamma(d / 2) * r ** (d - 1)

        def map_to(u: Tensor) -> Patch:
            normals = _directions(u)
            points = column(self._center, u) + r * normals
            return Patch(points, normals, torch.ones(u.shape[1], dtype=torch.bool, device=u.device))

        return (Piece(self._name, max(d - 1, 1) if d <= 3 else d, measure, map_to, self.distance),)


class Disk(Ball):
    """(x − c₁)² + (y − c₂)² ≤ r²."""

    def __init__(
        self,
        center: Sequence[float],
        radius: float,
        axes: Sequence[str] = ("x", "y"),
        name: str = "circle",
    ) -> None:
        super().__init__(center, radius, axes, name)


def _directions(u: Tensor) -> Tensor:
    """Unit vectors (d, N), evenly distributed for parameters that are so in the unit cube."""
    if len(u) == 1:
        return torch.stack([torch.cos(2 * math.pi * u[0]), torch.sin(2 * math.pi * u[0])])
    if len(u) == 2:
        z, angle = 1 - 2 * u[0], 2 * math.pi * u[1]
        s = torch.sqrt(1 - z**2)
        return torch.stack([s * torch.cos(angle), s * torch.sin(angle), z])
    normal = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-1 + 1e-12, 1 - 1e-12))
    return normal / normal.norm(dim=0)


class Ellipse(Geometry):
    """ω = 1 − ((x − c₁)/a)² − ((y − c₂)/b)² ≥ 0; φ = ω / √(ω²/l² + |∇ω|²), l = min(a, b).

    Points of its boundary are evenly distributed along the arc.

    Args:
        center: c.
        semi_axes: a and b.
        axes: names of the coordinates.
        name: of the boundary.
    """

    def __init__(
        self,
        center: Sequence[float],
        semi_axes: Sequence[float],
        axes: Sequence[str] = ("x", "y"),
        name: str = "ellipse",
    ) -> None:
        if not (are_finite(center) and len(center) == len(axes) == 2):
            raise GeometryError(
                f"Ellipse(center={center!r}): it must have a finite number for each of two"
                f" axes, which are {', '.join(axes)}"
            )
        if not (are_finite(semi_axes) and len(semi_axes) == 2 and min(semi_axes) > 0):
            raise GeometryError(
                f"Ellipse(semi_axes={semi_axes!r}): it must have two finite numbers above 0"
            )
        self.axes, self._name = tuple(axes), name
        self._center, self._semi_axes = tuple(map(float, center)), tuple(map(float, semi_axes))
        pairs = zip(self._center, self._semi_axes, strict=True)
        self.bounds = tuple((c - half, c + half) for c, half in pairs)

    def contains(self, points: Tensor) -> Tensor:
        return self._omega(points) >= 0

    def distance(self, points: Tensor) -> Tensor:
        omega, size = self._omega(points), column(self._semi_axes, points)
        slope = 2 * (points - column(self._center, points)) / size**2
        square = (omega / min(self._semi_axes)) ** 2 + slope[0] ** 2 + slope[1] ** 2
        return omega / torch.sqrt(square)

    def _omega(self, points: Tensor) -> Tensor:
        x, y = (points - column(self._center, points)) / column(self._semi_axes, points)
        return 1 - x**2 - y**2

    @property
    def pieces(self) -> tuple[Piece, ...]:
        a, b = self._semi_axes
        angles = np.linspace(0, 2 * math.pi, _ARC + 1)
        middle = (angles[1:] + angles[:-1]) / 2
        steps = np.hypot(a * np.sin(middle), b * np.cos(middle)) * 2 * math.pi / _ARC
        lengths = np.concatenate([[0.0], np.cumsum(steps)])

        def map_to(u: Tensor) -> Patch:
            angle = to_tensor(np.interp(to_array(u[0]) * lengths[-1], lengths, angles)).to(u)
            unit = torch.stack([torch.cos(angle), torch.sin(angle)])
            outwards = unit / column(self._semi_axes, u)
            points = column(self._center, u) + column(self._semi_axes, u) * unit
            holds = torch.ones(u.shape[1], dtype=torch.bool, device=u.device)
            return Patch(points, outwards / outwards.norm(dim=0), holds)

        return (Piece(self._name, 1, float(lengths[-1]), map_to, self.distance),)


class Polygon(Geometry):
    """The inside of a closed line of corners, which may be re-entrant and does not cross itself.

    Its distance joins those of the edges, φ = 1 / Σ 1/φ_e, φ_e = √(f² + (√(g² + f⁴) − g)²/4) with
    the distance f from an edge's line and g = (l/2)² − |x − m|² / … its trim (Sukumar, Srivastava
    2022, section 4).

    Args:
        corners: pairs of numbers, three or more, in either sense of rotation; the last one may be
            the first one again.
        name: of the boundary; its edges are "name.1", "name.2", …
    """

    def __init__(
        self,
        corners: Sequence[tuple[float, float]],
        axes: Sequence[str] = ("x", "y"),
        name: str = "edges",
    ) -> None:
        if len(corners) < 3 or not all(map(_is_corner, corners)):
            raise GeometryError(
                f"Polygon({_list(corners)}): it must have three or more corners, pairs of finite"
                " numbers"
            )
        given: list[Corner] = [(float(x), float(y)) for x, y in corners]
        ring = given[:-1] if given[0] == given[-1] else given
        if doubled := [corner for corner, count in Counter(ring).items() if count > 1]:
            raise GeometryError(
                f"Polygon({_list(corners)}) has the corner {doubled[0]} twice: each must be there"
                " once, but the last one may be the first one again"
            )
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in _edges(ring)) / 2
        if area == 0:
            raise GeometryError(f"Polygon({_list(corners)}) is empty: its corners are on a line")
        if crossing := _find_crossing(ring):
            one, other = (f"from {a} to {b}" for a, b in crossing)
            raise GeometryError(
                f"Polygon({_list(corners)}) crosses or touches itself: its edges {one} and {other}"
                " must have no point in common"
            )
        self._corners = ring if area > 0 else ring[::-1]
        self.axes, self._name = tuple(axes), name
        xs, ys = zip(*self._corners, strict=True)
        self.bounds = ((min(xs), max(xs)), (min(ys), max(ys)))

    def contains(self, points: Tensor) -> Tensor:
        x, y = points
        inside = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        for (ax, ay), (bx, by) in _edges(self._corners):
            if ay != by:
                crosses = (ay > y) != (by > y)
                inside ^= crosses & (x < ax + (bx - ax) * (y - ay) / (by - ay))
        return inside

    def distance(self, points: Tensor) -> Tensor:
        distances = [piece.distance(points) for piece in self.pieces]
        joined = 1 / sum(1 / each for each in distances)
        return torch.where(self.contains(points.detach()), joined, -joined)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        edges = enumerate(_edges(self._corners), start=1)
        return tuple(self._edge(f"{self._name}.{number}", *ends) for number, ends in edges)

    def _edge(self, name: str, a: tuple[float, float], b: tuple[float, float]) -> Piece:
        length = math.dist(a, b)
        along = ((b[0] - a[0]) / length, (b[1] - a[1]) / length)

        def map_to(u: Tensor) -> Patch:
            points = column(a, u) + length * column(along, u) * u[0]
            normals = column((along[1], -along[0]), u).expand_as(points).clone()
            return Patch(points, normals, torch.ones(u.shape[1], dtype=torch.bool, device=u.device))

        def distance(points: Tensor) -> Tensor:
            x, y = points
            f = (x - a[0]) * along[1] - (y - a[1]) * along[0]
            s = ((x - (a[0] + b[0]) / 2) ** 2 + (y - (a[1] + b[1]) / 2) ** 2) / length
            g = length / 4 - s
            return torch.sqrt(f**2 + ((torch.sqrt(g**2 + f**4) - g) / 2) ** 2)

        return Piece(name, 1, length, map_to, distance)


def _edges(corners: Sequence[Corner]) -> list[tuple[Corner, Corner]]:
    return list(zip(corners, [*corners[1:], corners[0]], strict=True))


def _is_corner(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and len(value) == 2 and are_finite(value)


def _list(corners: Sequence[Any]) -> str:
    """The corners as they were given, for messages: of many the first ones."""
    shown = ", ".join(map(str, corners[:_SHOWN]))
    return f"[{shown}{', …' if len(corners) > _SHOWN else ''}]"


def _find_crossing(corners: Sequence[Corner]) -> list[tuple[Corner, Corner]]:
    """Two edges that have more in common than the corner of neighbours; empty for none.

    Others meet where their boxes overlap and the ends of neither are on one side of the other one;
    neighbours where they turn back.
    """
    edges = _edges(corners)
    starts, ends = np.array(edges).swapaxes(0, 1)
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    for i in range(len(edges) - 1):
        rest = slice(i + 1, None)
        a, b, c, d = starts[i], ends[i], starts[rest], ends[rest]
        overlap = ((low[i] <= high[rest]) & (low[rest] <= high[i])).all(axis=1)
        meet = (_side(a, b, c) * _side(a, b, d) <= 0) & (_side(c, d, a) * _side(c, d, b) <= 0)
        turn_back = (_side(a, b, b + d - c) == 0) & (((b - a) * (d - c)).sum(axis=1) < 0)
        are_neighbours = np.arange(i + 1, len(edges)) == i + 1
        are_neighbours[-1] |= i == 0
        found = np.flatnonzero(np.where(are_neighbours, turn_back, overlap & meet))
        if len(found):
            return [edges[i], edges[i + 1 + int(found[0])]]
    return []


def _side(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """1 for points (N, 2) to the left of the line from a to b, −1 to its right, 0 on it."""
    along, offset = b - a, points - a
    return np.sign(along[..., 0] * offset[..., 1] - along[..., 1] * offset[..., 0])
