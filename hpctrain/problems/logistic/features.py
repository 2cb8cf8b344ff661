"""Rows of features, dense or sparse, with the two products that a linear model needs of them.

Both sum in an order that depends on a row or a chunk alone, not on how many there are, where they
lie or how many threads there are, as BLAS would: the bits are the same on any number of ranks.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, TypeAlias

import numpy as np
from scipy.sparse import csr_array

Rows: TypeAlias = np.ndarray | csr_array
# θ has a number for each feature, and is dense, as are the gradients of all chunks.
MOST_FEATURES = 10**8


class Features(Protocol):
    """Rows x_j (n,) of the samples of some chunks."""

    rows: Rows

    def products(self, theta: np.ndarray) -> np.ndarray:
        """x_jᵀθ of every row (N,)."""

    def sum_chunks(self, weights: np.ndarray) -> np.ndarray:
        """Σ w_j x_j over each chunk, (C, n); zero for an empty one."""


class DenseFeatures:
    """Rows in an array (N, n); chunk c holds the rows bounds[c] to bounds[c + 1] - 1."""

    def __init__(self, rows: np.ndarray, bounds: Sequence[int]) -> None:
        self.rows = np.ascontiguousarray(rows)
        self._bounds = bounds

    def products(self, theta: np.ndarray) -> np.ndarray:
        return np.einsum("ij,j->i", self.rows, theta)

    def sum_chunks(self, weights: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(self._bounds) - 1, self.rows.shape[1]), self.rows.dtype)
        for total, (first, last) in zip(sums, pairwise(self._bounds), strict=True):
            if first < last:
                np.einsum("ij,i->j", self.rows[first:last], weights[first:last], out=total)
        return sums


class SparseFeatures:
    """The same of a matrix in compressed rows, in time proportional to its non-zeros."""

    def __init__(self, rows: csr_array, bounds: Sequence[int]) -> None:
        self.rows = rows
        self._bounds = bounds
        self._transposed = [_cut_rows(rows, *ends).T for ends in pairwise(bounds)]

    def products(self, theta: np.ndarray) -> np.ndarray:
        return self.rows @ theta

    def sum_chunks(self, weights: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(self._bounds) - 1, self.rows.shape[1]), self.rows.dtype)
        for total, (first, last), part in zip(
            sums, pairwise(self._bounds), self._transposed, strict=True
        ):
            if first < last:
                total[:] = part @ weights[first:last]
        return sums


def make_features(rows: Rows, bounds: Sequence[int]) -> Features:
    """Dense or sparse, as the rows are."""
    kind = DenseFeatures if isinstance(rows, np.ndarray) else SparseFeatures
    return kind(rows, bounds)


def make_dense(rows: Rows) -> np.ndarray:
    """The rows as an array, for a few of them."""
    return rows if isinstance(rows, np.ndarray) else rows.toarray()


def _cut_rows(rows: csr_array, first: int, last: int) -> csr_array:
    """Some rows as a view; slicing would copy them."""
    start, stop = rows.indptr[first], rows.indptr[last]
    arrays = (
        rows.data[start:stop],
        rows.indices[start:stop],
        rows.indptr[first : last + 1] - start,
    )
    return csr_array(arrays, shape=(last - first, rows.shape[1]), copy=False)
