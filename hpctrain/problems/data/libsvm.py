"""Reads and writes samples in the format of LIBSVM: "label index:value index:value …" a line.

Indices count from 1 and ascend. Files may be compressed by gzip, bzip2 or xz, as they are
published. Source: Chang and Lin, LIBSVM, ACM Transactions on Intelligent Systems and Technology 2
(2011), and its README.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from io import TextIOWrapper
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from hpctrain.errors import InputError
from hpctrain.problems.logistic.features import MOST_FEATURES, Rows
from hpctrain.problems.logistic.problem import LabelledRows

# A matrix with a greater share of non-zeros is kept dense.
DENSE_ABOVE = 0.25
# How compressed files begin, and what reads them.
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


def read_libsvm(path: str | PathLike[str], features: int | None = None) -> LabelledRows:
    """The samples of a file, dense or sparse as suits them.

    Args:
        path: a text file, plain or compressed; what follows "#" in a line is left out, and so are
            empty lines.
        features: their number; by default the greatest index.

    Raises:
        InputError: the file cannot be read, or a line is damaged; it is named.
    """
    labels: list[float] = []
    values: list[float] = []
    indices: list[int] = []
    indptr = [0]
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, start=1):
                fields = line.partition("#")[0].split()
                if fields:
                    labels.append(_number(fields[0], "label", path, number))
                    _read_pairs(fields[1:], indices, values, path, number)
                    indptr.append(len(indices))
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        why = (isinstance(error, OSError) and error.strerror) or f"damaged: {error}"
        raise InputError(f"{path}: cannot read the samples: {why}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8 (byte {error.start})") from error
    if not indices:
        raise InputError(f"{path}: there are no samples in LIBSVM format")
    width = max(indices) + 1
    if features is not None and width > features:
        raise InputError(f"{path}: a feature has index {width}; at most {features} are expected")
    arrays = np.array(values), np.array(indices), np.array(indptr)
    shape = (len(labels), width if features is None else features)
    return LabelledRows(_as_suits(csr_array(arrays, shape=shape)), np.array(labels))


def write_libsvm(path: str | PathLike[str], data: LabelledRows) -> None:
    """Writes samples, zeros left out; read back they are the same numbers."""
    rows = csr_array(data.features)
    with Path(path).open("w", encoding="utf-8") as file:
        for row, label in enumerate(data.labels):
            own = slice(rows.indptr[row], rows.indptr[row + 1])
            pairs = zip(rows.indices[own].tolist(), rows.data[own].tolist(), strict=True)
            words = [f"{label:+g}", *(f"{index + 1}:{value!r}" for index, value in pairs if value)]
            file.write(" ".join(words) + "\n")


def _open_text(path: str | PathLike[str]) -> TextIOWrapper:
    """A text file, decompressed if it begins as a compressed one does, whatever its name."""
    with open(path, "rb") as file:
        begin = file.read(max(map(len, COMPRESSED)))
    for magic, opener in COMPRESSED.items():
        if begin.startswith(magic):
            return opener(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def _read_pairs(
    fields: list[str],
    indices: list[int],
    values: list[float],
    path: str | PathLike[str],
    number: int,
) -> None:
    """Appends the pairs index:value of a line."""
    last = 0
    for field in fields:
        index, colon, value = field.partition(":")
        if not colon or not (index.isascii() and index.isdecimal()):
            raise InputError(f"{path}: line {number}: {_cut(field)} is not index:value")
        if len(index.lstrip("0")) > len(str(MOST_FEATURES)) or int(index) > MOST_FEATURES:
            raise InputError(
                f"{path}: line {number}: index {_cut(index)} is not allowed, at most"
                f" {MOST_FEATURES}: there is a parameter for each index"
            )
        if not int(index) > last:
            raise InputError(
                f"{path}: line {number}: index {index} follows {last};"
                " indices start at 1 and ascend"
            )
        last = int(index)
        indices.append(last - 1)
        values.append(_number(value, f"value of feature {last}", path, number))


def _number(text: str, what: str, path: str | PathLike[str], line: int) -> float:
    try:  # Python also takes other alphabets' digits, and "_" between digits
        value = float(text) if text.isascii() and "_" not in text else np.nan
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{path}: line {line}: the {what}, {_cut(text)}, is not a finite number")
    return value


def _cut(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _as_suits(rows: csr_array) -> Rows:
    count, width = rows.shape
    return rows.toarray() if rows.nnz > DENSE_ABOVE * count * width else rows
