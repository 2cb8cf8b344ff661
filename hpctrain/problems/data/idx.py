"""Readers of binary image files: IDX, as MNIST and Fashion-MNIST have it, and CIFAR-10's.

IDX: two zero bytes, the type of the values (8: bytes), the number of dimensions, each of them as a
big-endian 32-bit number, then the values by rows (Y. LeCun, C. Cortes, C. Burges, The MNIST
database). CIFAR-10: records of a label byte and 3 x 32 x 32 bytes (A. Krizhevsky, 2009).
"""

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hpctrain.problems.data.sets import BLOCK_BYTES, DataError, Part

IDX_BYTES = b"\x00\x00\x08"
CIFAR_SHAPE = (3, 32, 32)


def read_idx(images: Path, labels: Path) -> Part:
    """Images with their labels from two IDX files, plain or compressed by gzip.

    Raises:
        DataError: a file is damaged, or they do not fit each other.
    """
    shape = _idx_shape(images, dimensions=3)
    (count,) = _idx_shape(labels, dimensions=1)
    if count != shape[0]:
        raise DataError(f"{labels}: {count} labels for the {shape[0]} images of {images}")
    values = np.concatenate(list(_idx_blocks(labels, 1, (count,))))
    # One channel of rows and columns.
    blocks = partial(_idx_blocks, images, 3, (count, 1, *shape[1:]))
    return Part(str(images), (1, *shape[1:]), values, blocks)


def read_idx_images(images: Path) -> tuple[int, Callable[[], Iterator[np.ndarray]]]:
    """How many images a file has, without their labels, and what reads them in blocks.

    Raises:
        DataError: the file is damaged.
    """
    count, *extents = _idx_shape(images, dimensions=3)
    return count, partial(_idx_blocks, images, 3, (count, 1, *extents))


def read_cifar(files: Sequence[Path]) -> Part:
    """Images with their labels from CIFAR-10's binary files, in this order.

    Raises:
        DataError: a file is not a number of whole records.
    """
    size = 1 + math.prod(CIFAR_SHAPE)
    for file in files:
        length = file.stat().st_size
        if length == 0 or length % size:
            raise _explain(file, f"{length} bytes are no whole number of records of {size}")
    labels = [block[:, 0].copy() for block in _records(files, size)]
    source = ", ".join(map(str, files))
    return Part(source, CIFAR_SHAPE, np.concatenate(labels), partial(_cifar_images, files, size))


def _cifar_images(files: Sequence[Path], size: int) -> Iterator[np.ndarray]:
    for block in _records(files, size):
        yield block[:, 1:].reshape(-1, *CIFAR_SHAPE)


def _records(files: Sequence[Path], size: int) -> Iterator[np.ndarray]:
    for file in files:
        yield np.fromfile(file, np.uint8).reshape(-1, size)


def _open(file: Path) -> BinaryIO:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def _idx_shape(file: Path, dimensions: int) -> tuple[int, ...]:
    try:
        with _open(file) as stream:
            header = stream.read(4 + 4 * dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise _explain(file, str(error)) from error
    if header[:4] != IDX_BYTES + bytes([dimensions]) or len(header) < 4 + 4 * dimensions:
        what = "images" if dimensions == 3 else "labels"
        raise _explain(file, f"it does not begin as an IDX file of {what} does")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if 0 in shape:
        raise _explain(file, f"its header names the shape {' x '.join(map(str, shape))}")
    return shape


def _idx_blocks(file: Path, dimensions: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The values behind a header of so many dimensions, in this shape, some entries at a time."""
    size = math.prod(shape[1:])
    most = max(BLOCK_BYTES // size, 1)
    try:
        with _open(file) as stream:
            stream.read(4 + 4 * dimensions)
            for first in range(0, shape[0], most):
                count = min(most, shape[0] - first)
                data = stream.read(count * size)
                if len(data) < count * size:
                    raise _explain(file, f"it ends before entry {shape[0]}, which its header names")
                yield np.frombuffer(data, np.uint8).reshape(count, *shape[1:])
            if stream.read(1):
                raise _explain(file, f"it goes on after entry {shape[0]}, the last of its header")
    except (OSError, EOFError, zlib.error) as error:
        raise _explain(file, str(error)) from error


def _explain(file: Path, why: str) -> DataError:
    return DataError(f"{file} is damaged ({why}): get it anew, for shipped data by `make data`")
