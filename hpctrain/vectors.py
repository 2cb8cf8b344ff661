"""Inner products of parameter vectors, with the same bits for any number of threads.

BLAS and torch split long sums among their threads, so that the bits depend on how many there are.
NumPy sums pairwise in one thread; products with several vectors are left to one thread of torch.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def dot(x: Tensor, y: Tensor) -> float:
    """xᵀy of two vectors (n,)."""
    return float(np.add.reduce((x * y).numpy()))


def norm(x: Tensor) -> float:
    """The Euclidean norm of a vector (n,)."""
    return math.sqrt(dot(x, x))


def products(X: Tensor, Y: Tensor) -> Tensor:
    """X Yᵀ, in float64, of rows X (k, n) with a vector Y (n,) or with rows Y (m, n)."""
    with one_thread():
        return (X @ Y.mT if Y.ndim > 1 else X @ Y).double()


def combination(weights: Tensor, X: Tensor) -> Tensor:
    """w X of rows X (k, n), in their precision, for weights w (k,) or (m, k)."""
    with one_thread():
        return weights.to(X.dtype) @ X


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
