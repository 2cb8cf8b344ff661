"""Reader of SVHN's cropped digits, `train_32x32.mat` and `test_32x32.mat`.

MATLAB files with X (32, 32, 3, N), bytes by rows, columns and channels, and y (N, 1), where the
label 10 stands for the digit 0: Netzer, Wang, Coates, Bissacco, Wu, Ng, Reading digits in natural
images with unsupervised feature learning, NIPS workshop 2011.
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from hpctrain.problems.data.sets import BLOCK_BYTES, DataError, Part

SHAPE = (3, 32, 32)
ZERO = 10


def read_svhn(file: Path) -> Part:
    """Images with their labels, 0 to 9.

    Raises:
        DataError: the file is damaged, or of another layout.
    """
    _, y = _arrays(file)
    labels = np.where(y == ZERO, 0, y).astype(np.uint8)
    return Part(str(file), SHAPE, labels, partial(_images, file))


def _images(file: Path) -> Iterator[np.ndarray]:
    """The file is compressed as a whole, and read again rather than kept in every rank's memory."""
    X, _ = _arrays(file)
    most = BLOCK_BYTES // math.prod(SHAPE)
    for first in range(0, X.shape[3], most):
        yield X[..., first : first + most].transpose(3, 2, 0, 1)


def _arrays(file: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy import io  # what it imports takes long

    try:
        found = io.loadmat(file, variable_names=("X", "y"))
        X, y = found["X"], found["y"].ravel()
    except KeyError as error:
        raise _explain(file, f"it has no {error.args[0]}") from error
    except Exception as error:  # the reader fails in many ways on a file that is not whole
        raise _explain(file, " ".join(f"{type(error).__name__}: {error}".split())) from error
    if X.dtype != np.uint8 or X.shape != (*SHAPE[1:], SHAPE[0], len(y)):
        expected = f"bytes of shape (32, 32, 3, {len(y)})"
        raise _explain(file, f"X holds {X.dtype} of shape {X.shape}, expected are {expected}")
    if not len(y) or not 1 <= y.min() <= y.max() <= ZERO:
        raise _explain(file, "y holds other labels than 1 to 10, or none")
    return X, y


def _explain(file: Path, why: str) -> DataError:
    return DataError(f"{file} is damaged ({why}): get it anew")
