"""Reads and writes a user's columns of numbers in HDF5 files, a data set for each column."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from hpctrain.store.guarded import open_to_read


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Reads the data sets of a file, by name.

    Raises:
        OSError: the file cannot be read.
    """
    with open_to_read(path) as file:
        return {name: each[()] for name, each in file.items() if isinstance(each, h5py.Dataset)}


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns to a new file, a data set for each.

    Raises:
        OSError: it cannot be written.
    """
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
