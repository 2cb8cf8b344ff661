"""Writes and reads attributes of HDF5 objects, with texts of fixed length.

HDF5 keeps texts of variable length in a heap without checksum, and a damaged heap can make a reader
loop for ever. A text of fixed length lies in the header of its object, which has a checksum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

Scalar = str | bool | int | float


def write(target: h5py.HLObject, values: Mapping[str, Scalar | Sequence[str]]) -> None:
    """Sets attributes: numbers, texts and lists of texts."""
    for name, value in values.items():
        target.attrs[name] = value if isinstance(value, bool | int | float) else _encode(value)


def _encode(value: str | Sequence[str]) -> np.ndarray:
    texts = [value] if isinstance(value, str) else value
    encoded = [text.encode() for text in texts]
    length = max(1, *map(len, encoded)) if encoded else 1
    array = np.array(encoded, dtype=h5py.string_dtype("utf-8", length))
    return array[0] if isinstance(value, str) else array


def read(source: h5py.HLObject) -> dict[str, Scalar]:
    """Reads all attributes that are single values. Texts may also be of variable length."""
    values = {name: _decode(value) for name, value in source.attrs.items()}
    return {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}


def read_texts(source: h5py.HLObject, name: str) -> list[str]:
    """Reads an attribute that is a list of texts."""
    return [_decode(text) for text in source.attrs[name].tolist()]


def _decode(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
