"""A data set as labelled samples that are read in blocks, of which a rank keeps what it needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hpctrain.errors import InputError

# Bytes of samples that a reader holds at a time, about.
BLOCK_BYTES = 1 << 24


class DataError(InputError):
    """Data that is missing or damaged: says what was looked for, where, and how to get it."""


@dataclass(frozen=True)
class Part:
    """The training or the test samples.

    Attributes:
        source: the file, or the files, for messages.
        shape: of one sample: (channels, height, width) of an image.
        labels: (N,), integers from 0.
        blocks: reads the samples from the first on; blocks (b, *shape) of as many as there are.
    """

    source: str
    shape: tuple[int, ...]
    labels: np.ndarray
    blocks: Callable[[], Iterator[np.ndarray]]

    @property
    def count(self) -> int:
        return len(self.labels)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """The samples with these numbers, in their order, (len(numbers), *shape)."""
        order = np.argsort(numbers, kind="stable")
        ascending = numbers[order]
        found, first = [], 0
        for block in self.blocks():
            low, high = np.searchsorted(ascending, (first, first + len(block)))
            found.append(block[ascending[low:high] - first])
            first += len(block)
        rows = np.empty((len(numbers), *self.shape), found[0].dtype)
        rows[order] = np.concatenate(found)
        return rows


@dataclass(frozen=True)
class DataSet:
    """Training and test samples of the same shape and classes."""

    name: str
    train: Part
    test: Part
    classes: int

    def __post_init__(self) -> None:
        train, test = self.train, self.test
        if train.shape != test.shape:
            raise DataError(
                f"{test.source}: samples of shape {test.shape}, those of {train.source} have"
                f" {train.shape}"
            )
        for part in (train, test):
            if part.count == 0:
                raise DataError(f"{part.source}: there are no samples")
            low, high = int(part.labels.min()), int(part.labels.max())
            if low < 0 or high >= self.classes:
                raise DataError(
                    f"{part.source}: labels go from {low} to {high}, allowed is 0 to"
                    f" {self.classes - 1}"
                )


@dataclass(frozen=True)
class Scaling:
    """x ↦ (x - shift) / scale, by channel for images, else alike for all features."""

    shift: np.ndarray
    scale: np.ndarray

    def __call__(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The scaled samples, computed in double precision and rounded once."""
        return ((x - self.shift) / self.scale).astype(dtype)


def fit_scaling(part: Part, kind: str) -> Scaling:
    """What a job's `scaling` means for these samples; reads all of them.

    Args:
        kind: "unit", to [0, 1]: bytes are divided by 255, others by the range of their values;
            "standard", to mean 0 and variance 1; "none".
    """
    by_channel = len(part.shape) == 3
    axes = (0, 2, 3) if by_channel else tuple(range(1 + len(part.shape)))
    channels = part.shape[0] if by_channel else 1
    total, squares = np.zeros(channels), np.zeros(channels)
    low, high, read, dtype = np.inf, -np.inf, 0, np.dtype("u1")
    for block in part.blocks():
        values = block.astype(np.float64)
        total += values.sum(axis=axes)
        squares += np.square(values).sum(axis=axes)
        low, high, dtype = min(low, values.min()), max(high, values.max()), block.dtype
        read += values.size // channels
    if not np.isfinite(total).all():
        raise DataError(f"{part.source}: samples hold NaN or infinite values")
    mean = total / read
    deviation = np.sqrt(np.maximum(squares / read - np.square(mean), 0))
    if kind == "none":
        shift, scale = np.zeros(channels), np.ones(channels)
    elif kind == "standard":
        shift, scale = mean, np.where(deviation > 0, deviation, 1.0)
    else:
        low, high = (0.0, 255.0) if dtype == np.uint8 else (low, high)
        shift, scale = np.full(channels, low), np.full(channels, (high - low) or 1.0)
    form = (channels, 1, 1) if by_channel else (1,) * len(part.shape)
    return Scaling(shift.reshape(form), scale.reshape(form))
