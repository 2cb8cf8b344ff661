"""Columns of numbers in an HDF5 file that a user brings: one data set each."""

from pathlib import Path

import h5py
import numpy as np


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The data sets of a file by name.

    Raises:
        OSError: the file cannot be read.
    """
    with h5py.File(path, "r") as file:
        return {name: each[()] for name, each in file.items() if isinstance(each, h5py.Dataset)}
