"""Inner products of parameter vectors, with the same bits for any number of threads.

BLAS and torch split long sums among their threads, so that the bits depend on how many there are.
NumPy sums pairwise in one thread.
"""

import math

import numpy as np
from torch import Tensor


def dot(x: Tensor, y: Tensor) -> float:
    """xᵀy of two vectors (n,)."""
    return float(np.add.reduce((x * y).numpy()))


def norm(x: Tensor) -> float:
    """The Euclidean norm of a vector (n,)."""
    return math.sqrt(dot(x, x))
