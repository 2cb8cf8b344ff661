"""Inner products of parameter vectors, with the same bits for any number of threads.

BLAS and torch split long sums among their threads, so that the bits depend on how many there are.
NumPy sums pairwise in one thread; products with several vectors are left to one thread of torch.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import CPU, to_array


def dot(x: Tensor, y: Tensor) -> float:
    """xᵀy of two vectors (n,); on a GPU torch's sum, whose order is the same in every call."""
    if x.device != CPU:
        return float(torch.sum(x * y))
    return float(np.add.reduce(to_array(x * y)))


def norm(x: Tensor) -> float:
    """The Euclidean norm of a vector (n,), 0 for x = 0 only: also where squares underflow."""
    square, limits = dot(x, x), torch.finfo(x.dtype)
    if not square < limits.tiny / limits.eps:
        return math.sqrt(square)
    largest = float(x.abs().max()) if len(x) else 0.0
    if largest == 0:
        return 0.0
    scaled = x / largest
    return largest * math.sqrt(dot(scaled, scaled))


def multiply_rows(X: Tensor, Y: Tensor) -> Tensor:
    """X Yᵀ, in float64 and on the CPU, of rows X (k, n) with a vector Y (n,) or rows Y (m, n)."""
    with one_thread():
        return (X @ Y.mT if Y.ndim > 1 else X @ Y).to(CPU, torch.float64)


def combine_rows(weights: Tensor, X: Tensor) -> Tensor:
    """w X of rows X (k, n), in their place and precision, for weights w (k,) or (m, k)."""
    with one_thread():
        return weights.to(X) @ X


class one_thread:  # noqa: N801 - a context, much used: one by a generator takes several times longer
    """Torch computes in one thread."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        if self._threads > 1:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self._threads > 1:
            torch.set_num_threads(self._threads)
