"""Reads and writes a user's columns of numbers in HDF5 files, a data set for each column."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.store.guarded import open_to_read


@dataclass(frozen=True)
class StoredColumn:
    """A data set, of which slices are read.

    Attributes:
        path: of the file, which is closed between two reads.
        name: of the data set.
        shape, dtype: of all of it.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        with open_to_read(self.path) as file:
            return np.asarray(file[self.name][rows])


def open_columns(path: Path) -> dict[str, StoredColumn]:
    """The data sets of a file by name.

    Raises:
        OSError: the file cannot be read.
    """
    with open_to_read(path) as file:
        return {
            name: StoredColumn(path, name, each.shape, each.dtype)
            for name, each in file.items()
            if isinstance(each, h5py.Dataset)
        }


class ColumnsWriter:
    """Writes a new file, a block of rows after the other.

    Args:
        path: of the file.
        columns: the type of each.
        rows: that each is to have.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, columns: Mapping[str, np.dtype], rows: int) -> None:
        self._file = h5py.File(path, "w")
        self._first = 0
        for name, dtype in columns.items():
            self.create(name, (rows,), dtype)

    def create(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Makes one more data set; "group/name" puts it into a group."""
        self._file.create_dataset(name, shape, dtype)

    def write(self, name: str, first: int, values: np.ndarray) -> None:
        """Writes rows of a data set, from the `first` on."""
        self._file[name][first : first + len(values)] = values

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Writes the next rows of the columns, the same ones each time."""
        for name, values in columns.items():
            self.write(name, self._first, values)
        self._first += len(next(iter(columns.values())))

    def close(self) -> None:
        """Completes the file."""
        self._file.close()
