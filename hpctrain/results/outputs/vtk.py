"""Writes VTK's XML files: VTU, points with cells of any kind, and VTS, a grid.

All arrays are appended raw, one after the other, so that the place of every number is known before
any is, and a block of points is written into all of them. Source: the VTK file formats,
https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.results.points import Points, sort_axes

# VTK's numbers of the kinds of cells that meshio names.
KINDS = {
    "vertex": 1, "line": 3, "triangle": 5, "quad": 9, "tetra": 10, "hexahedron": 12, "wedge": 13,
    "pyramid": 14, "line3": 21, "triangle6": 22, "quad8": 23, "tetra10": 24, "hexahedron20": 25,
}  # fmt: skip
NAMES = {"f8": "Float64", "f4": "Float32", "i8": "Int64", "i4": "Int32", "u1": "UInt8"}
POINTS = "Points"


@dataclass(frozen=True)
class _Array:
    """An array of a file, `count` times so many components."""

    name: str
    dtype: np.dtype
    count: int
    components: int = 1

    @property
    def row(self) -> int:
        """Bytes of its components."""
        return self.components * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return self.count * self.row


class _AppendedFile:
    """The header of a file, and arrays behind it, each behind its size in bytes (UInt64).

    Args:
        path: of the new file.
        kind: of the data.
        whole, piece: attributes of its tags.
        sections: the arrays of each.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        whole: str,
        piece: str,
        sections: Mapping[str, Sequence[_Array]],
    ) -> None:
        arrays = [array for section in sections.values() for array in section]
        offsets: dict[str, int] = {}
        # Behind each other from the last to the first: meshio takes new places of those that it has
        # been at for places of those to come, unless these stand before them in the header.
        self._size = 0
        for array in reversed(arrays):
            offsets[array.name] = self._size
            self._size += 8 + array.size
        self._arrays = {array.name: array for array in arrays}
        self._file = path.open("wb")
        lines = _list_lines(kind, whole, piece, sections, offsets)
        self._file.write("\n".join(lines).encode())
        start = self._file.tell()
        self._starts = {name: start + offset for name, offset in offsets.items()}
        self._end = start + self._size
        for array in arrays:
            self._file.seek(self._starts[array.name])
            self._file.write(struct.pack("<Q", array.size))

    def write(self, name: str, first: int, values: np.ndarray) -> None:
        """Writes rows of an array, from the `first` on."""
        array = self._arrays[name]
        self._file.seek(self._starts[name] + 8 + first * array.row)
        self._file.write(np.ascontiguousarray(values, array.dtype.newbyteorder("<")).data)

    def close(self) -> None:
        """Completes the file."""
        self._file.seek(self._end)
        self._file.write(b"\n</AppendedData>\n</VTKFile>\n")
        self._file.close()


def _list_lines(
    kind: str,
    whole: str,
    piece: str,
    sections: Mapping[str, Sequence[_Array]],
    offsets: Mapping[str, int],
) -> Iterator[str]:
    """The header, to the letter behind which data begin."""
    yield '<?xml version="1.0"?>'
    yield f'<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" header_type="UInt64">'
    yield f"<{kind}{whole}>"
    yield f"<Piece {piece}>"
    for section, arrays in sections.items():
        yield f"<{section}>"
        for array in arrays:
            several = f' NumberOfComponents="{array.components}"' if array.components > 1 else ""
            yield (
                f'<DataArray Name="{array.name}" type="{NAMES[array.dtype.str[1:]]}"{several}'
                f' format="appended" offset="{offsets[array.name]}"/>'
            )
        yield f"</{section}>"
    yield f"</Piece>\n</{kind}>"
    yield '<AppendedData encoding="raw">\n_'


class _PointsWriter:
    """Points with columns of data; what is no x, y or z of a picture is data, too."""

    def __init__(self, points: Points, columns: Mapping[str, np.dtype]) -> None:
        self._axes = sort_axes(points.coordinates)[:3]
        self._columns = [name for name in columns if name not in self._axes]
        self._first = 0
        self.points = [_Array(POINTS, np.dtype("f8"), points.count, 3)]
        self.data = [_Array(name, columns[name], points.count) for name in self._columns]
        self.file: _AppendedFile

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds points with their data."""
        count = len(next(iter(columns.values())))
        places = np.zeros((count, 3))
        for k, name in enumerate(self._axes):
            places[:, k] = columns[name]
        self.file.write(POINTS, self._first, places)
        for name in self._columns:
            self.file.write(name, self._first, columns[name])
        self._first += count

    def close(self) -> None:
        """Completes the file."""
        self.file.close()


class UnstructuredWriter(_PointsWriter):
    """VTU: the cells of a mesh or a grid, at each of the outer coordinates; else single points."""

    def __init__(self, path: Path, points: Points, columns: Mapping[str, np.dtype]) -> None:
        super().__init__(points, columns)
        cells = points.cells
        if unknown := [kind for kind in cells if kind not in KINDS]:
            raise InputError(f"{points.source} has cells of kind {unknown[0]}: write .csv or .h5")
        turns = points.count // max(points.count_base, 1)
        count = turns * sum(map(len, cells.values()))
        int64, uint8 = np.dtype("i8"), np.dtype("u1")
        corners = turns * sum(each.size for each in cells.values())
        arrays = [
            _Array("connectivity", int64, corners),
            _Array("offsets", int64, count),
            _Array("types", uint8, count),
        ]
        piece = f'NumberOfPoints="{points.count}" NumberOfCells="{count}"'
        sections = {"Points": self.points, "Cells": arrays, "PointData": self.data}
        self.file = _AppendedFile(path, "UnstructuredGrid", "", piece, sections)
        cell = corner = 0
        for turn in range(turns):
            for kind, each in cells.items():
                self.file.write("connectivity", corner, each.ravel() + turn * points.count_base)
                ends = corner + each.shape[1] * np.arange(1, len(each) + 1)
                self.file.write("offsets", cell, ends)
                self.file.write("types", cell, np.full(len(each), KINDS[kind], "u1"))
                cell, corner = cell + len(each), corner + each.size


class StructuredWriter(_PointsWriter):
    """VTS: a grid of at most three coordinates that vary."""

    def __init__(self, path: Path, points: Points, columns: Mapping[str, np.dtype]) -> None:
        super().__init__(points, columns)
        wide = [len(values) for values in points.axes.values() if len(values) > 1]
        extents = [*reversed(wide), 1, 1, 1][:3]  # VTK's first index runs fastest
        extent = " ".join(f"0 {number - 1}" for number in extents)
        sections = {"Points": self.points, "PointData": self.data}
        self.file = _AppendedFile(
            path, "StructuredGrid", f' WholeExtent="{extent}"', f'Extent="{extent}"', sections
        )
