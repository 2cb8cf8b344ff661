"""Inner products of parameter vectors, with the same bits for any number of threads.

BLAS and torch divide long sums among their threads, so that the bits depend on how many there are.
Single products are therefore NumPy's, which sums in pairs in one thread, and products with several
vectors are torch's in one thread.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.linalg import solve_triangular

from hpctrain.linalg.arrays import CPU, to_array


def dot(x: Tensor, y: Tensor) -> float:
    """Computes xᵀy of two vectors (n,); on a GPU in the order that torch has for each call."""
    if x.device != CPU:
        return float(torch.sum(x * y))
    return float(np.add.reduce(to_array(x) * to_array(y)))  # a few calls of NumPy's take less time


def norm(x: Tensor) -> float:
    """Computes the Euclidean norm of a vector (n,).

    It is 0 for x = 0 only, also where the squares are too small for floating-point numbers.
    """
    square, limits = dot(x, x), torch.finfo(x.dtype)
    if not square < limits.tiny / limits.eps:
        return math.sqrt(square)
    largest = float(x.abs().max()) if len(x) else 0.0
    if largest == 0:
        return 0.0
    scaled = x / largest
    return largest * math.sqrt(dot(scaled, scaled))


def multiply_rows(X: Tensor, Y: Tensor) -> Tensor:
    """Computes X Yᵀ, float64 on the CPU, for rows X (k, n) and a vector Y (n,) or rows Y (m, n)."""
    with one_thread():
        return (X @ Y.mT if Y.ndim > 1 else X @ Y).to(CPU, torch.float64)


def combine_rows(weights: Tensor, X: Tensor) -> Tensor:
    """Computes w X on the device and in the precision of X (k, n), for weights w (k,) or (m, k)."""
    with one_thread():
        return weights.to(X) @ X


def substitute(L: Tensor, b: Tensor, transposed: bool) -> Tensor:
    """Computes L⁻¹ b or L⁻ᵀ b (n,) for a lower triangle L (n, n)."""
    return solve_triangular(L.mT if transposed else L, b[:, None], upper=transposed)[:, 0]


class one_thread:  # noqa: N801 - a context, much used: one by a generator takes several times longer
    """A context in which torch computes in one thread."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        if self._threads > 1:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self._threads > 1:
            torch.set_num_threads(self._threads)
