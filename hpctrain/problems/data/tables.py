"""Named columns of numbers in files of a user's own: CSV, NPY, NPZ and HDF5."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.store.columns import read_columns, write_columns

ENDS = (".csv", ".npy", ".npz", ".h5", ".hdf5")
ALLOWED = f"{', '.join(ENDS[:-1])} or {ENDS[-1]}"


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a file by name.

    CSV has a line of names; NPY is a structured array; NPZ and HDF5 have an array a column.

    Raises:
        OSError, ValueError: it cannot be read, or is no table; the message says why.
    """
    if path.suffix == ".csv":
        return {name: np.array(column) for name, column in _read_csv(path).items()}
    if path.suffix == ".npy":
        table = np.load(path, allow_pickle=False)
        if table.dtype.names is None:
            raise ValueError("its columns have no names: save a structured array")
        return {name: table[name] for name in table.dtype.names}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if path.suffix in ENDS:
        return read_columns(path)
    raise ValueError(f"its name must end in {ALLOWED}")


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns (N,) to a file of one of these formats.

    Raises:
        OSError: it cannot be written.
        ValueError: its name ends otherwise.
    """
    if path.suffix == ".csv":
        rows = np.column_stack(list(columns.values()))
        np.savetxt(path, rows, "%.17g", ",", header=",".join(columns), comments="")
    elif path.suffix == ".npy":
        table = np.empty(len(next(iter(columns.values()))), [(name, "f8") for name in columns])
        for name, values in columns.items():
            table[name] = values
        np.save(path, table)
    elif path.suffix == ".npz":
        arrays: dict[str, Any] = dict(columns)
        np.savez(path, **arrays)
    elif path.suffix in ENDS:
        write_columns(path, columns)
    else:
        raise ValueError(f"its name must end in {ALLOWED}")


def _read_csv(path: Path) -> dict[str, list[float]]:
    """The columns below a line of names."""
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    names = [name.strip() for name in rows[0]] if rows else []
    columns: dict[str, list[float]] = {name: [] for name in names}
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} values for {len(names)} columns")
        for name, value in zip(names, row, strict=True):
            try:
                columns[name].append(float(value))
            except ValueError:
                raise ValueError(f"row {number}, {name}: {value!r} is no number") from None
    return columns
