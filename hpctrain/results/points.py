"""Where a solution is asked for: points of a table or of a mesh, or a grid, read as they come.

Other coordinates may be given beside a table or a mesh, such as a time, or several: then all points
are taken at each.
"""

import io
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.problems.data.tables import ALLOWED, ENDS, Column, open_table
from hpctrain.problems.equations.fields import TIME
from hpctrain.results.grids import make_cells, parse_grid, read_grid

MESHES = ".vtu, .vtk, .msh, .xdmf and what else meshio reads"


@dataclass(frozen=True)
class Points:
    """Points in a fixed order: those of the base, at each of the outer coordinates.

    Attributes:
        source: what was given, for messages.
        coordinates: their names, in the problem's order.
        count_base: points of the base.
        read_base: reads the base's coordinates, of its points first … last - 1, by name.
        axes: of a base that is a grid.
        mesh: of a base that is a mesh, kind → numbers of corners (M, corners).
        outer: coordinates at which all points of the base are taken, the last running fastest.
    """

    source: str
    coordinates: tuple[str, ...]
    count_base: int
    read_base: Callable[[int, int], Mapping[str, np.ndarray]]
    axes: Mapping[str, np.ndarray] = field(default_factory=dict)
    mesh: Mapping[str, np.ndarray] = field(default_factory=dict)
    outer: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of points."""
        return self.count_base * math.prod(map(len, self.outer.values()))

    @property
    def cells(self) -> Mapping[str, np.ndarray]:
        """Those of the base, kind → numbers of corners (M, corners); its points where none are."""
        if self.axes:
            return make_cells([len(values) for values in self.axes.values()])
        return self.mesh or {"vertex": np.arange(self.count_base)[:, None]}

    def read(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Reads the coordinates (n,) of the points first … last - 1."""
        parts = []
        while first < last:  # within one turn of the base at a time
            turn, start = divmod(first, self.count_base)
            stop = min(self.count_base, start + last - first)
            own = {**self.read_base(start, stop)}
            for name, values in read_grid(self.outer, turn, turn + 1).items():
                own[name] = np.repeat(values, stop - start)
            parts.append(own)
            first += stop - start
        return {
            name: np.concatenate([np.empty(0), *(part[name] for part in parts)])
            for name in self.coordinates
        }

    def follow_time(self) -> "Points":
        """Returns the same points, those of a grid ordered by time first."""
        if TIME not in self.axes:
            return self
        inner = {name: values for name, values in self.axes.items() if name != TIME}
        grid = _make_grid(self.source, inner, list(inner))
        outer = {TIME: self.axes[TIME], **self.outer}
        return replace(grid, coordinates=self.coordinates, outer=outer)


def open_points(given: str, at: str | None, coordinates: tuple[str, ...]) -> Points:
    """Opens the points that a user names.

    Args:
        given: a file, or a grid "t=0:1:101,x=-1:1:201".
        at: more coordinates, "t=0.5" or "t=0:1:11".
        coordinates: of the problem.

    Raises:
        InputError: they cannot be read, or a coordinate is missing or given twice.
    """
    path = Path(given)
    outer = parse_grid(at, f"--at {at} is not allowed: t=0.5,nu=0.1") if at else {}
    if unknown := [name for name in outer if name not in coordinates]:
        raise InputError(
            f"--at {at} has {unknown[0]}, which is no coordinate: {', '.join(coordinates)}"
        )
    needed = [name for name in coordinates if name not in outer]
    if path.suffix in ENDS:
        points = _open_table(path, needed, outer)
    elif path.exists():
        points = _open_mesh(path, needed, outer)
    else:
        what = f"points {given!r} are not allowed: a table ({ALLOWED}), a mesh ({MESHES})"
        axes = parse_grid(given, what)
        _check_lacking(given, axes, outer)
        points = _make_grid(given, axes, needed)
    return replace(points, coordinates=coordinates, outer=outer)


def _make_grid(source: str, axes: Mapping[str, np.ndarray], needed: Sequence[str]) -> Points:
    _check_names(source, axes, needed)
    own = {name: values for name, values in axes.items() if name in needed}
    shape = [len(values) for values in own.values()]
    read = partial(read_grid, own)
    return Points(source, tuple(needed), math.prod(shape), read, own)


def _open_table(path: Path, needed: Sequence[str], outer: Collection[str]) -> Points:
    try:
        table = open_table(path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _explain(path, error) from error
    _check_names(str(path), table, needed)
    _check_lacking(str(path), table, outer)
    return _take_columns(path, {name: table[name] for name in needed})


def _open_mesh(path: Path, needed: Sequence[str], outer: Collection[str]) -> Points:
    """The points of a mesh: what is no data of its points is its x, y, z, time last."""
    try:
        import meshio
    except ImportError:
        raise InputError(f"{path}: meshio is not installed: pip install 'hpctrain[mesh]'") from None
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):  # where meshio explains why it exits
            mesh = meshio.read(path)
    except (Exception, SystemExit) as error:  # its readers raise what comes
        raise _explain(path, said.getvalue().strip() or error) from error
    _check_lacking(str(path), mesh.point_data, outer)
    columns: dict[str, Column] = {n: v for n, v in mesh.point_data.items() if n in needed}
    spatial = sort_axes(name for name in needed if name not in columns)
    if len(spatial) > mesh.points.shape[1]:
        raise InputError(
            f"{path} has points in {mesh.points.shape[1]} dimensions and no data named"
            f" {spatial[-1]}: it must have {', '.join(needed)}, or --at {spatial[-1]}=…"
        )
    columns |= {name: mesh.points[:, k] for k, name in enumerate(spatial)}
    return replace(_take_columns(path, columns), mesh=mesh.cells_dict)


def sort_axes(coordinates: Iterable[str]) -> list[str]:
    """Sorts coordinates as they are x, y and z of a picture: time last."""
    return sorted(coordinates, key=lambda name: name == TIME)


def _take_columns(path: Path, columns: Mapping[str, Column]) -> Points:
    needed, shapes = ", ".join(columns), {tuple(each.shape) for each in columns.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise InputError(f"{path} must have columns of one length for {needed}")

    def read(first: int, last: int) -> dict[str, np.ndarray]:
        try:
            return {n: np.asarray(each[first:last], np.float64) for n, each in columns.items()}
        except (OSError, ValueError, TypeError) as error:
            raise _explain(path, error) from error

    return Points(str(path), tuple(columns), next(iter(shapes))[0], read)


def _check_names(source: str, found: Collection[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in found]:
        raise InputError(f"{source} has no column {missing[0]}: it must have {', '.join(needed)}")


def _check_lacking(source: str, found: Collection[str], outer: Collection[str]) -> None:
    """Refuses coordinates beside points that have them."""
    if twice := [name for name in outer if name in found]:
        raise InputError(f"--at {twice[0]}=… is not allowed: {source} has {twice[0]} itself")


def _explain(path: Path, error: object) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path} cannot be read: {reason}")
