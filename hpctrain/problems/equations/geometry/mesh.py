"""Geometry from mesh files, by meshio: MSH, VTU, VTK, STL, XDMF and what else it reads.

Only the boundary of a mesh is used: points are distributed anew.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import CPU, to_tensor
from hpctrain.problems.equations.geometry.base import Geometry, GeometryError, Piece
from hpctrain.problems.equations.geometry.facets import Facets

Facet = tuple[int, ...]

# Corners of the faces of a cell, by its kind in meshio.
_CELLS = {
    "triangle": ((0, 1), (1, 2), (2, 0)),
    "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
    "tetra": ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)),
    "hexahedron": (
        (0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7),
    ),
    "wedge": ((0, 1, 2), (3, 4, 5), (0, 1, 4, 3), (1, 2, 5, 4), (2, 0, 3, 5)),
    "pyramid": ((0, 1, 2, 3), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)),
}  # fmt: skip
_FILLED = {2: ("triangle", "quad"), 3: ("tetra", "hexahedron", "wedge", "pyramid")}
_FACETS = {2: {"line": 2}, 3: {"triangle": 3, "quad": 4}}


class Mesh(Geometry):
    """What the boundary of a mesh encloses: Mesh("part.msh"), Mesh("plate.vtu", axes=("x", "y")).

    A file of cells has the boundary of all of them together; a file of facets alone (STL, or lines
    in the plane) must enclose something. Pieces of the boundary have the names of Gmsh's physical
    groups, or of meshio's cell sets. Cells with curved faces count as straight ones. Its distance
    has kinks, so that exact conditions cannot be made of it.

    Args:
        path: of the file, which meshio reads.
        axes: names of the coordinates, two for a plane mesh.
        name: of the boundary where the file has none.

    Raises:
        GeometryError: the file cannot be read, or encloses nothing.
    """

    def __init__(
        self, path: str | Path, axes: Sequence[str] = ("x", "y", "z"), name: str = "surface"
    ) -> None:
        self._title, self.axes = f"Mesh({str(path)!r})", tuple(axes)
        if len(self.axes) not in _FILLED:
            raise GeometryError(f"{self._title}: axes = {self.axes} must be two or three names")
        mesh = self._read(path)
        points, self._numbers = self._merge(np.asarray(mesh.points, np.float64))
        self._points = to_tensor(points)
        names = dict(self._find_names(mesh))
        boundary = self._find_boundary(mesh)
        facets = [part for facet, _ in boundary for part in _split(facet)]
        self._check_closed(facets)
        self._labels = [
            names.get(_key(facet), name) for facet, _ in boundary for _ in _split(facet)
        ]
        cells = [cell for facet, cell in boundary for _ in _split(facet)]
        self._facets = self._turn_outwards(torch.tensor(facets, device=CPU), cells)
        used = self._facets.corners.reshape(-1, len(self.axes))
        low, high = used.min(dim=0).values.tolist(), used.max(dim=0).values.tolist()
        self.bounds = tuple(zip(low, high, strict=True))

    def contains(self, points: Tensor) -> Tensor:
        return (self._facets.count_turns(points.cpu().double()) > 0.5).to(points.device)

    def distance(self, points: Tensor) -> Tensor:
        nearest = self._facets.find_distances(points.detach().cpu().double())
        nearest = nearest.to(points.device, points.dtype)
        return torch.where(self.contains(points), nearest, -nearest)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(self._make_piece(label) for label in sorted(set(self._labels)))

    def _make_piece(self, label: str) -> Piece:
        own = torch.tensor([each == label for each in self._labels], device=CPU)
        facets = Facets(self._facets.corners[own])

        def distance(points: Tensor) -> Tensor:
            return facets.find_distances(points.detach().double())

        parameters = 1 if len(self.axes) == 2 else 3
        measure = float(facets.measures.sum())
        return Piece(label, parameters, measure, facets.map_cube, distance, is_smooth=False)

    def _read(self, path: str | Path) -> Any:
        try:
            import meshio
        except ImportError as error:
            raise GeometryError(
                f"{self._title}: meshio is not installed: pip install 'hpctrain[mesh]'"
            ) from error
        try:
            return meshio.read(Path(path))
        except (Exception, SystemExit) as error:  # meshio's readers raise what comes, or exit
            why = " ".join(str(error).split()) or "no mesh that meshio can read"
            raise GeometryError(f"{self._title} cannot be read: {why}") from error

    def _merge(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Different points along the axes, and their numbers by those of the file."""
        d = len(self.axes)
        if not np.isfinite(points).all():
            raise GeometryError(f"{self._title} has a point that is not finite")
        if points.shape[1] < d or np.ptp(points[:, d:], axis=0).any():
            raise GeometryError(
                f"{self._title} has points with {points.shape[1]} coordinates: name that many axes,"
                f" here {', '.join(self.axes)}"
            )
        merged, numbers = np.unique(points[:, :d], axis=0, return_inverse=True)
        return merged, numbers.reshape(-1)

    def _find_names(self, mesh: Any) -> Iterator[tuple[frozenset[int], str]]:
        """The names that the file gives to facets, by their corners."""
        groups = {
            int(tag): name
            for name, (tag, dimension) in mesh.field_data.items()
            if dimension == len(self.axes) - 1
        }
        tags = mesh.cell_data.get("gmsh:physical", [()] * len(mesh.cells))
        for block, own in zip(mesh.cells, tags, strict=True):
            for facet, tag in zip(self._corners(block) if len(own) else (), own, strict=False):
                if int(tag) in groups:
                    yield _key(facet), groups[int(tag)]
        for name, members in mesh.cell_sets.items():
            for block, chosen in zip(mesh.cells, members, strict=True):
                if chosen is not None and len(chosen):
                    facets = list(self._corners(block))
                    yield from ((_key(facets[int(i)]), name) for i in chosen if facets)

    def _corners(self, block: Any) -> Iterator[Facet]:
        """The corners of a block's cells, if they are facets, by numbers of merged points."""
        counts = _FACETS[len(self.axes)]
        kind = _name_straight(block.type)
        for cell in block.data[:, : counts[kind]] if kind in counts else ():
            yield tuple(self._numbers[cell].tolist())

    def _find_boundary(self, mesh: Any) -> list[tuple[Facet, Facet]]:
        """Facets without a neighbour, each with its cell: none where the file has facets alone."""
        d = len(self.axes)
        found: dict[frozenset[int], list[tuple[Facet, Facet]]] = {}
        for block in mesh.cells:
            kind = _name_straight(block.type)
            if kind in _FILLED[d]:
                count = 1 + max(k for face in _CELLS[kind] for k in face)
                for cell in self._numbers[block.data[:, :count]].tolist():
                    for face in _CELLS[kind]:
                        facet = tuple(cell[k] for k in face)
                        found.setdefault(_key(facet), []).append((facet, tuple(cell)))
        if found:
            return [each[0] for each in found.values() if len(each) == 1]
        alone: list[tuple[Facet, Facet]] = [
            (facet, ()) for block in mesh.cells for facet in self._corners(block)
        ]
        if alone:
            return alone
        kinds = ", ".join(sorted({block.type for block in mesh.cells})) or "no cells"
        raise GeometryError(
            f"{self._title} has {kinds}: along {', '.join(self.axes)} it must have"
            f" {', '.join(_FILLED[d])}, or {' or '.join(_FACETS[d])}"
        )

    def _check_closed(self, facets: Sequence[Facet]) -> None:
        ridges = Counter(frozenset(facet) - {corner} for facet in facets for corner in facet)
        if open_ones := [ridge for ridge, count in ridges.items() if count % 2]:
            place = self._points[list(open_ones[0])].mean(dim=0).tolist()
            near = ", ".join(f"{axis} = {x:.4g}" for axis, x in zip(self.axes, place, strict=True))
            raise GeometryError(
                f"{self._title} is open: its boundary has {len(open_ones)} ends without a"
                f" neighbour, one at {near}"
            )

    def _turn_outwards(self, facets: Tensor, cells: Sequence[Facet]) -> Facets:
        """The facets with normals that point away from their cells, or from what they enclose."""
        made = Facets(self._points[facets])
        if all(cells):
            inner = torch.stack([self._points[list(cell)].mean(dim=0) for cell in cells])
            inwards = ((made.corners[:, 0] - inner) * made.normals).sum(dim=1) < 0
        elif len(self.axes) == 2:
            inwards = self._point_inwards(made)
        else:
            self._check_sense(facets)
            inwards = torch.full((len(facets),), made.volume < 0, device=CPU)
        corners = torch.where(inwards[:, None, None], made.turn().corners, made.corners)
        return Facets(corners)

    def _point_inwards(self, lines: Facets) -> Tensor:
        """Which normals of lines in any sense point inwards: a ray crosses the boundary once."""
        middle = lines.corners.mean(dim=1)
        probes = middle + 1e-7 * lines.measures[:, None] * lines.normals
        (ax, ay), (bx, by) = lines.corners[:, 0].T, lines.corners[:, 1].T
        x, y = probes[:, :1], probes[:, 1:]
        crosses = (ay > y) != (by > y)
        at = ax + (bx - ax) * (y - ay) / torch.where(by == ay, 1.0, by - ay)
        return (crosses & (x < at)).sum(dim=1) % 2 == 1

    def _check_sense(self, facets: Tensor) -> None:
        """Neighbours must run along their common edge in opposite senses."""
        edges = Counter((int(f[i]), int(f[i - 1])) for f in facets for i in range(3))
        if any(edges[edge] != edges[edge[::-1]] for edge in edges):
            raise GeometryError(
                f"{self._title}: neighbouring facets are turned to different sides: orient the"
                " surface in the program that made it"
            )


def _name_straight(kind: str) -> str:
    """The kind of cell with straight edges that has the corners of this one."""
    return kind.rstrip("0123456789")


def _key(facet: Sequence[int]) -> frozenset[int]:
    return frozenset(facet)


def _split(facet: Facet) -> tuple[Facet, ...]:
    """A quadrilateral as two triangles; what is simple stays."""
    if len(facet) < 4:
        return (facet,)
    a, b, c, d = facet
    return (a, b, c), (a, c, d)
