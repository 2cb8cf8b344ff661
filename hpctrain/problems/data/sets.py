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

    def few(self, count: int) -> np.ndarray:
        """So many samples from all over the first block, (count, *shape); some twice if need be."""
        block = next(iter(self.blocks()))
        return block[np.linspace(0, len(block) - 1, count).astype(int)]


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
            _check_some(part)
            low, high = int(part.labels.min()), int(part.labels.max())
            if low < 0 or high >= self.classes:
                raise DataError(
                    f"{part.source}: labels go from {low} to {high}, allowed is 0 to"
                    f" {self.classes - 1}"
                )


def _check_some(part: Part) -> None:
    if part.count == 0:
        raise DataError(f"{part.source}: there are no samples")
    if 0 in part.shape:
        raise DataError(f"{part.source}: samples of shape {part.shape} hold no numbers")


def count_classes(train: Part) -> int:
    """1 + the greatest label, of samples that do not say how many classes there are.

    Raises:
        DataError: there would be more classes than samples: the labels cannot be meant as such.
    """
    _check_some(train)
    classes = 1 + int(train.labels.max())
    if classes > train.count:
        raise DataError(
            f"{train.source}: label {classes - 1} of sample {train.labels.argmax()} makes"
            f" {classes} classes, but there are {train.count} samples: labels count from 0, and"
            " there are at most as many classes as samples"
        )
    return classes


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

    Means and variances of blocks are merged, so that nothing cancels far from zero. Source: Chan,
    Golub, LeVeque, The American Statistician 37 (1983).

    Args:
        kind: "unit", to [0, 1]: bytes are divided by 255, others by the range of their values;
            "standard", to mean 0 and variance 1, but constants to 0; "none".
    """
    by_channel = len(part.shape) == 3
    axes = (0, 2, 3) if by_channel else tuple(range(1 + len(part.shape)))
    channels = part.shape[0] if by_channel else 1
    mean, squares = np.zeros(channels), np.zeros(channels)  # of deviations from the mean
    lows, highs, read, dtype = np.full(channels, np.inf), np.full(channels, -np.inf), 0, None
    for block in _finite_blocks(part):
        values = block.astype(np.float64)
        count, dtype = values.size // channels, block.dtype
        with np.errstate(over="ignore", invalid="ignore"):
            own = values.mean(axis=axes, keepdims=True)
            apart = own.reshape(channels) - mean
            squares += np.square(values - own).sum(axis=axes)
            squares += np.square(apart) * (read * count / (read + count))
            mean += apart * (count / (read + count))
        lows = np.minimum(lows, values.min(axis=axes))
        highs = np.maximum(highs, values.max(axis=axes))
        read += count
    low, high = lows.min(), highs.max()
    if kind == "standard" and not np.isfinite(squares).all():
        raise DataError(
            f"{part.source}: values from {low:.3g} to {high:.3g} are too large for a mean and a"
            ' variance: set problem.scaling to "unit" or "none"'
        )
    if kind == "none":
        shift, scale = np.zeros(channels), np.ones(channels)
    elif kind == "standard":
        varies = (highs > lows) & (squares > 0)
        shift = np.where(highs > lows, mean, lows)
        scale = np.where(varies, np.sqrt(squares / read), 1.0)
    else:
        low, high = (0.0, 255.0) if dtype == np.uint8 else (low, high)
        shift, scale = np.full(channels, low), np.full(channels, (high - low) or 1.0)
    form = (channels, 1, 1) if by_channel else (1,) * len(part.shape)
    return Scaling(shift.reshape(form), scale.reshape(form))


def check_finite(part: Part) -> None:
    """Reads the samples, unless they are integers.

    Raises:
        DataError: one of them holds NaN or infinity.
    """
    for block in _finite_blocks(part):
        if block.dtype.kind != "f":
            return


def _finite_blocks(part: Part) -> Iterator[np.ndarray]:
    """The blocks of the samples, whose numbers are all finite."""
    first = 0
    for block in part.blocks():
        if block.dtype.kind == "f":
            good = np.isfinite(block).reshape(len(block), -1).all(axis=1)
            if not good.all():
                sample = first + int(good.argmin())
                raise DataError(f"{part.source}: sample {sample} holds NaN or infinite values")
        first += len(block)
        yield block
