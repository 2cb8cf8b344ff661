"""Named columns of numbers in files of a user's own: CSV, NPY, NPZ and HDF5.

They are read and written a block of rows after the other, so that tables need not fit in memory;
but for NPZ, whose arrays are read and written whole.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedWriter
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpctrain.store.columns import ColumnsWriter, open_columns

ENDS = (".csv", ".npy", ".npz", ".h5", ".hdf5")
ALLOWED = f"{', '.join(ENDS[:-1])} or {ENDS[-1]}"
# Rows of a CSV file that are Python's numbers at a time.
ROWS = 1 << 14


class Column(Protocol):
    """Numbers (N, …), in memory or in a file, of which slices are read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, rows: Any) -> np.ndarray: ...


class Writer(Protocol):
    """A file that is written a block of rows after the other."""

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds rows, the same columns each time."""

    def close(self) -> None:
        """Completes the file."""


def open_table(path: Path) -> Mapping[str, Column]:
    """The columns of a file by name, read as far as they are asked for where the format allows it.

    CSV has a line of names; NPY is a structured array; NPZ and HDF5 have an array a column.

    Raises:
        OSError, ValueError: it cannot be read, or is no table; the message says why.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix == ".npy":
        table = np.load(path, mmap_mode="r", allow_pickle=False)
        if table.dtype.names is None:
            raise ValueError("its columns have no names: save a structured array")
        return {name: table[name] for name in table.dtype.names}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if path.suffix in ENDS:
        return open_columns(path)
    raise ValueError(f"its name must end in {ALLOWED}")


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The same columns, all of them in memory."""
    return {name: np.array(column[...]) for name, column in open_table(path).items()}


def make_writer(path: Path, columns: Mapping[str, np.dtype], rows: int) -> Writer:
    """What writes a table of so many rows.

    Raises:
        OSError: the file cannot be made.
        ValueError: its name ends otherwise.
    """
    if path.suffix == ".csv":
        return _CsvWriter(path, list(columns))
    if path.suffix == ".npy":
        return _NpyWriter(path, columns, rows)
    if path.suffix == ".npz":
        return _NpzWriter(path)
    if path.suffix in ENDS:
        return ColumnsWriter(path, columns, rows)
    raise ValueError(f"its name must end in {ALLOWED}")


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns (N,) to a file of one of these formats; raises as `make_writer`."""
    types = {name: values.dtype for name, values in columns.items()}
    writer = make_writer(path, types, len(next(iter(columns.values()))))
    writer.append(columns)
    writer.close()


class _CsvWriter:
    """Numbers with as many digits as tell them apart."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._file.write(",".join(names) + "\n")

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        lists = [values.tolist() for values in columns.values()]
        self._file.writelines(",".join(map(repr, row)) + "\n" for row in zip(*lists, strict=True))

    def close(self) -> None:
        self._file.close()


class _NpyWriter:
    """A structured array."""

    def __init__(self, path: Path, columns: Mapping[str, np.dtype], rows: int) -> None:
        self._type = np.dtype([(name, dtype) for name, dtype in columns.items()])
        self._file: BufferedWriter = path.open("wb")
        described = np.lib.format.dtype_to_descr(self._type)
        header = {"descr": described, "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_2_0(self._file, header)

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        table = np.empty(len(next(iter(columns.values()))), self._type)
        for name, values in columns.items():
            table[name] = values
        self._file.write(table.tobytes())

    def close(self) -> None:
        self._file.close()


class _NpzWriter:
    """An array a column; kept in memory until it is closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._blocks: dict[str, list[np.ndarray]] = {}

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        for name, values in columns.items():
            self._blocks.setdefault(name, []).append(values)

    def close(self) -> None:
        arrays: dict[str, Any] = {k: np.concatenate(v) for k, v in self._blocks.items()}
        np.savez(self._file, **arrays)
        self._file.close()


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """The columns below a line of names."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = (row for row in csv.reader(file) if row)
        names = [name.strip() for name in next(rows, [])]
        blocks = list(_read_blocks(rows, names))
    return {name: np.concatenate([block[:, k] for block in blocks]) for k, name in enumerate(names)}


def _read_blocks(rows: Iterator[list[str]], names: Sequence[str]) -> Iterator[np.ndarray]:
    """The numbers of rows, (rows, columns) at a time; at least one block."""
    first = 1
    while True:
        texts = list(islice(rows, ROWS))
        numbers = [_parse_row(row, names, first + k) for k, row in enumerate(texts)]
        yield np.array(numbers).reshape(len(numbers), len(names))
        if len(texts) < ROWS:
            return
        first += len(texts)


def _parse_row(row: Sequence[str], names: Sequence[str], number: int) -> list[float]:
    if len(row) != len(names):
        raise ValueError(f"row {number} has {len(row)} values for {len(names)} columns")
    try:
        return list(map(float, row))
    except ValueError:
        name, value = next(pair for pair in zip(names, row, strict=True) if not _is_number(pair[1]))
        raise ValueError(f"row {number}, {name}: {value!r} is no number") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
