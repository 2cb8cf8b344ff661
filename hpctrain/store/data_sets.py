"""Reads a user's data set for classification from an HDF5 file.

    train/inputs (N, …)   train/labels (N,)   test/inputs (M, …)   test/labels (M,)

Inputs may be of any real type and shape. Inputs of three dimensions are images (channels, height,
width), as torch has them. Images whose channels come last must be transposed before they are
stored, by x.transpose(0, 3, 1, 2). Labels are integers from 0, below the number of training
samples.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import InputError
from hpctrain.store.guarded import open_to_read

PARTS = ("train", "test")
# Bytes of inputs that are in memory at a time, about.
BLOCK_BYTES = 1 << 24


class DataFileError(InputError):
    """The file of a data set is missing, damaged, or not laid out as it should be."""


class StoredPart:
    """The training samples or the test samples of a file, which are read block by block.

    Attributes:
        source: the file and the part, as messages name them.
        shape: of one sample.
        labels: (N,).
    """

    def __init__(self, path: Path, part: str) -> None:
        self.source = f"{path} ({part})"
        try:
            with open_to_read(path) as file:
                inputs = _find_dataset(path, file, f"{part}/inputs", "iuf")
                labels = _find_dataset(path, file, f"{part}/labels", "iu")
                found = inputs.shape, labels.shape
                self.labels: np.ndarray = labels[:]
        except OSError as error:
            raise DataFileError(f"{path}: damaged, or not HDF5: {error}") from error
        if len(found[0]) < 2 or found[1] != found[0][:1]:
            raise DataFileError(
                f"{path}: {part}/inputs has the shape {found[0]}, {part}/labels {found[1]};"
                " expected are (N, …) and (N,)"
            )
        self.shape: tuple[int, ...] = found[0][1:]
        self.blocks = partial(_read_blocks, path, f"{part}/inputs")


def read_data_set(path: Path) -> tuple[StoredPart, StoredPart]:
    """Opens a data set; returns its training and its test samples.

    Raises:
        DataFileError: the file cannot be used.
    """
    if not path.is_file():
        raise DataFileError(f"{path}: there is no such file (from {Path.cwd()})")
    train, test = (StoredPart(path, part) for part in PARTS)
    return train, test


def _find_dataset(path: Path, file: h5py.File, name: str, kinds: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        wanted = ", ".join(f"{part}/{each}" for part in PARTS for each in ("inputs", "labels"))
        raise DataFileError(f"{path}: there is no {name}; expected are {wanted}")
    if found.dtype.kind not in kinds:
        allowed = "real numbers" if "f" in kinds else "integers"
        raise DataFileError(f"{path}: {name} holds {found.dtype}, allowed are {allowed}")
    return found


def _read_blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    try:
        with open_to_read(path) as file:
            inputs = file[name]
            size = max(inputs.nbytes // max(len(inputs), 1), 1)
            most = max(BLOCK_BYTES // size, 1)
            for first in range(0, len(inputs), most):
                yield inputs[first : first + most]
    except OSError as error:
        raise DataFileError(f"{path}: damaged: {error}") from error
