"""Samples to be classified: files in the formats of training data, or arrays without labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.data.idx import read_cifar, read_idx_images
from hpctrain.problems.data.libsvm import read_libsvm
from hpctrain.problems.data.sets import Part
from hpctrain.problems.data.svhn import read_svhn
from hpctrain.problems.data.tables import open_table
from hpctrain.problems.logistic.features import Rows
from hpctrain.problems.logistic.problem import LogisticProblem
from hpctrain.store.data_sets import read_data_set
from hpctrain.store.samples import read_samples

OWN = ("train", "test")
INPUTS = "inputs"
IMAGES = (
    '"train" or "test" of the run\'s data, .npy (N, …), .h5 (inputs, or a data set), IDX images,'
    " .bin of CIFAR-10, .mat of SVHN"
)
# Tables, of points: what files of images without a known ending are is seen by their first bytes.
TABLES = (".csv", ".npz")
ROWS = ".npy (N, n), .h5 (features, labels), or a file in LIBSVM format"

Classifier = ClassificationProblem | LogisticProblem


@dataclass(frozen=True)
class Samples:
    """Samples in a fixed order.

    Attributes:
        count: of all of them.
        read: samples first … last - 1; each call goes on behind the one before.
        labels: (N,), where they are known.
    """

    count: int
    read: Callable[[int, int], Rows]
    labels: np.ndarray | None = None


def open_samples(given: str, problem: Classifier) -> Samples:
    """Opens the samples that a user names, of the shape that a problem takes.

    Raises:
        InputError: they cannot be read, or are of another shape.
    """
    path = Path(given)
    takes_images = isinstance(problem, ClassificationProblem)
    if not path.is_file() and not (takes_images and given in OWN):
        allowed = IMAGES if takes_images else ROWS
        raise InputError(f"samples {given!r} are not allowed, there is no such file: {allowed}")
    if path.suffix == ".npy":
        return _open_array(path, problem)
    if isinstance(problem, ClassificationProblem):
        return _open_parts(path, problem)
    return _open_rows(path, problem)


def _open_array(path: Path, problem: Classifier) -> Samples:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    _check_real(path, array.dtype)
    _check_shape(path, array.shape[1:], problem)
    return Samples(len(array), lambda first, last: np.array(array[first:last]))


def _open_parts(path: Path, problem: ClassificationProblem) -> Samples:
    if str(path) in OWN:
        return _read_part(path, getattr(problem.data, str(path)), problem)
    if path.suffix in (".h5", ".hdf5"):
        try:
            stored = open_table(path).get(INPUTS)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        if stored is not None:
            _check_real(path, stored.dtype)
            _check_shape(path, stored.shape[1:], problem)
            return Samples(stored.shape[0], lambda first, last: stored[first:last])
        _, test = read_data_set(path)
        return _read_part(path, Part(test.source, test.shape, test.labels, test.blocks), problem)
    if path.suffix in (".bin", ".mat"):
        part = read_cifar([path]) if path.suffix == ".bin" else read_svhn(path)
        return _read_part(path, part, problem)
    if path.suffix in TABLES:
        raise InputError(f"{path}: {path.suffix} is not allowed for samples: {IMAGES}")
    count, blocks = read_idx_images(path)
    _check_shape(path, next(iter(blocks())).shape[1:], problem)
    return Samples(count, _Stream(blocks()).read)


def _read_part(path: Path, part: Part, problem: ClassificationProblem) -> Samples:
    _check_shape(path, part.shape, problem)
    return Samples(part.count, _Stream(part.blocks()).read, part.labels)


def _open_rows(path: Path, problem: LogisticProblem) -> Samples:
    if path.suffix in (".h5", ".hdf5"):
        rows, labels = read_samples(path)
    else:
        data = read_libsvm(path, problem.parameters)
        rows, labels = data.features, data.labels
    _check_shape(path, rows.shape[1:], problem)
    return Samples(len(labels), lambda first, last: rows[first:last], labels)


def _check_real(path: Path, dtype: np.dtype) -> None:
    if dtype.kind not in "iuf":
        raise InputError(f"{path} holds {dtype}, allowed are real numbers")


def _check_shape(path: Path, found: tuple[int, ...], problem: Classifier) -> None:
    if found != problem.sample_shape:
        raise InputError(
            f"{path} has samples of shape {found}: the run was trained with samples of shape"
            f" {problem.sample_shape}"
        )


class _Stream:
    """Reads samples out of blocks that come one after the other."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self._blocks = blocks
        self._first = 0
        self._held = np.empty(0)

    def read(self, first: int, last: int) -> np.ndarray:
        """Reads samples first … last - 1, which are behind those of the last call."""
        parts = []
        while first < last:
            if first >= self._first + len(self._held):
                self._first += len(self._held)
                self._held = next(self._blocks)
                continue
            part = self._held[first - self._first : last - self._first]
            parts.append(part)
            first += len(part)
        return np.concatenate(parts) if parts else self._held[:0]
