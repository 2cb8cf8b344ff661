"""Reads and writes samples with labels in HDF5 files, with dense or sparse features.

Dense:   labels (p,)   features (p, n)
Sparse:  labels (p,)   features/data (nnz,)  features/indices (nnz,)  features/indptr (p + 1,),
         compressed rows, and the attribute "features" of the group: n
"""

from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.sparse import csr_array

from hpctrain.errors import InputError
from hpctrain.store.guarded import open_to_read

COMPRESSION = {"compression": "gzip", "compression_opts": 4, "shuffle": True}


def read_samples(path: str | PathLike[str]) -> tuple[np.ndarray | csr_array, np.ndarray]:
    """Reads the features (p, n), dense or sparse, and the labels (p,).

    Raises:
        InputError: the file cannot be read, something is missing, or its parts do not fit together.
    """
    try:
        with open_to_read(Path(path)) as file:
            labels = np.asarray(file["labels"][()], dtype=np.float64)
            features = _read_features(file["features"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise InputError(f"{path}: not samples in HDF5 format: {reason}") from error
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InputError(
            f"{path}: features of shape {features.shape} and labels of shape {labels.shape}:"
            " expected are (p, n) and (p,)"
        )
    return features, labels


def write_samples(
    path: str | PathLike[str], features: np.ndarray | csr_array, labels: np.ndarray
) -> None:
    """Writes features and labels to a new file, which `read_samples` reads."""
    with h5py.File(path, "w") as file:
        file.create_dataset("labels", data=labels)
        if isinstance(features, np.ndarray):
            file.create_dataset("features", data=features, **COMPRESSION)
            return
        group = file.create_group("features")
        group.attrs["features"] = features.shape[1]
        for name in ("data", "indices", "indptr"):
            group.create_dataset(name, data=getattr(features, name), **COMPRESSION)


def _read_features(stored: Any) -> np.ndarray | csr_array:
    if isinstance(stored, h5py.Dataset):
        return np.asarray(stored[()], dtype=np.float64)
    arrays = tuple(stored[name][()] for name in ("data", "indices", "indptr"))
    shape = (len(arrays[2]) - 1, int(stored.attrs["features"]))
    rows = csr_array(arrays, shape=shape, dtype=np.float64)
    rows.check_format()
    return rows
