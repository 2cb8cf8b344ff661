"""Writes XDMF: the same points and cells at several times, the numbers in an HDF5 file beside it.

Source: https://www.xdmf.org/index.php/XDMF_Model_and_Format (version 3).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.problems.equations.fields import TIME
from hpctrain.results.points import Points, sort_axes
from hpctrain.store.columns import ColumnsWriter

# XDMF's names of the kinds of cells that meshio names, by the dimension of what they fill.
KINDS = {
    "vertex": (0, "Polyvertex"), "line": (1, "Polyline"), "triangle": (2, "Triangle"),
    "quad": (2, "Quadrilateral"), "tetra": (3, "Tetrahedron"), "hexahedron": (3, "Hexahedron"),
    "wedge": (3, "Wedge"), "pyramid": (3, "Pyramid"),
}  # fmt: skip
NUMBERS = {"f": "Float", "i": "Int"}


class XdmfWriter:
    """An XDMF file, and OUT.xdmf.h5 beside OUT.xdmf.

    Args:
        path: of the XDMF file.
        points: at times, which are the slowest of the outer coordinates, or without.
        columns: types by name; data of points is what is no coordinate of space or time.

    Raises:
        InputError: the points, or their cells, are of a kind that such a file has not.
    """

    def __init__(self, path: Path, points: Points, columns: Mapping[str, np.dtype]) -> None:
        if set(points.outer) - {TIME}:
            raise InputError(
                f"XDMF takes one value of {', '.join(set(points.outer) - {TIME})} at a time:"
                " write .h5 for several"
            )
        self._path, self._data = path, path.with_name(f"{path.name}.h5")
        self._kind, self._cells = _choose_cells(points)
        self._axes = [n for n in sort_axes(points.coordinates) if n not in points.outer][:3]
        self._times = points.outer.get(TIME, np.zeros(1)).tolist()
        self._count = points.count_base
        self._columns = {
            name: dtype
            for name, dtype in columns.items()
            if name not in self._axes and name not in points.outer
        }
        self._file = ColumnsWriter(self._data, {}, 0)
        self._file.create("points", (self._count, 3), np.dtype("f8"))
        self._file.create("cells", self._cells.shape, self._cells.dtype)
        self._file.write("cells", 0, self._cells)
        for step in range(len(self._times)):
            for name, dtype in self._columns.items():
                self._file.create(f"{step}/{name}", (self._count,), dtype)
        self._first = 0

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds points with their data, over the end of a step too."""
        count, done = len(next(iter(columns.values()))), 0
        while done < count:
            step, row = divmod(self._first, self._count)
            own = slice(done, min(count, done + self._count - row))
            if step == 0:
                places = np.zeros((own.stop - own.start, 3))
                for k, name in enumerate(self._axes):
                    places[:, k] = columns[name][own]
                self._file.write("points", row, places)
            for name in self._columns:
                self._file.write(f"{step}/{name}", row, columns[name][own])
            self._first += own.stop - own.start
            done = own.stop

    def close(self) -> None:
        """Completes both files."""
        self._file.close()
        self._path.write_text("\n".join(self._list_lines()) + "\n", encoding="utf-8")

    def _list_lines(self) -> Iterator[str]:
        points = self._describe_data("points", np.dtype("f8"), f"{self._count} 3")
        rows, corners = self._cells.shape
        cells = self._describe_data("cells", self._cells.dtype, f"{rows} {corners}")
        nodes = f' NodesPerElement="{corners}"' if self._kind.startswith("Poly") else ""
        yield '<?xml version="1.0"?>'
        yield '<Xdmf Version="3.0">'
        yield "<Domain>"
        yield '<Grid Name="run" GridType="Collection" CollectionType="Temporal">'
        for step, time in enumerate(self._times):
            yield f'<Grid Name="{step}" GridType="Uniform">'
            yield f'<Time Value="{time!r}"/>'
            yield (
                f'<Topology TopologyType="{self._kind}" NumberOfElements="{rows}"{nodes}>{cells}'
                "</Topology>"
            )
            yield f'<Geometry GeometryType="XYZ">{points}</Geometry>'
            for name, dtype in self._columns.items():
                values = self._describe_data(f"{step}/{name}", dtype, f"{self._count}")
                yield f'<Attribute Name="{name}" AttributeType="Scalar" Center="Node">'
                yield f"{values}</Attribute>"
            yield "</Grid>"
        yield "</Grid>"
        yield "</Domain>"
        yield "</Xdmf>"

    def _describe_data(self, name: str, dtype: np.dtype, shape: str) -> str:
        return (
            f'<DataItem NumberType="{NUMBERS[dtype.kind]}" Precision="{dtype.itemsize}"'
            f' Dimensions="{shape}" Format="HDF">{self._data.name}:/{name}</DataItem>'
        )


def _choose_cells(points: Points) -> tuple[str, np.ndarray]:
    """XDMF's name of the cells that fill most dimensions, and their corners (M, corners)."""
    found = points.cells
    most = max(KINDS[kind][0] for kind in found) if set(found) <= set(KINDS) else None
    chosen = [kind for kind in found if most is not None and KINDS[kind][0] == most]
    if len(chosen) != 1:
        raise InputError(
            f"{points.source} has cells of kinds {', '.join(found)}: XDMF is written for one kind"
            f" of {', '.join(KINDS)}: write .vtu"
        )
    return KINDS[chosen[0]][1], found[chosen[0]].astype(np.int64)
