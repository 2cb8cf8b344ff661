"""Cholesky factors of a symmetric positive definite matrix of few blocks that are not zero.

A (n, n) is cut by pieces of the unknowns. Of block rows i and columns j ≤ i only those are kept
that the pattern has, and what elimination fills. For j = 0, 1, …

    L_jj L_jjᵀ = A_jj,   L_ij = A_ij L_jj⁻ᵀ,   A_ik ← A_ik - L_ij L_kjᵀ   for i ≥ k > j in column j.

Pieces in a row, each coupled to its neighbours, cost S (n/S)³ 7/3 multiply-adds for the n³/6 of a
dense matrix. One thread computes it all: torch divides products among several in ways of its own.

Source: A. George, J. Liu, Computer Solution of Large Sparse Positive Definite Systems (1981).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from hpctrain.linalg.vectors import one_thread, substitute

Blocks = dict[tuple[int, int], Tensor]


class SparseBlocks:
    """The blocks of the lower triangle.

    Args:
        pieces: the entries of each piece among the n, which are all of them.
        blocks: A_ij by (i, j), i ≥ j; every diagonal block, of which the lower triangle is read.
    """

    def __init__(self, pieces: Sequence[Tensor], blocks: Blocks) -> None:
        self.pieces, self.blocks = pieces, blocks

    def factorise(self, shift: float) -> "SparseCholesky | None":
        """L of A + shift·I; None where that is not positive definite in floating-point numbers."""
        with one_thread():
            return self._factorise(shift)

    def _factorise(self, shift: float) -> "SparseCholesky | None":
        left, columns = dict(self.blocks), list[dict[int, Tensor]]()
        for j in range(len(self.pieces)):
            corner = left[j, j].clone()
            corner.diagonal().add_(shift)
            L, failed = torch.linalg.cholesky_ex(corner)
            if int(failed):
                return None
            rows = sorted(i for i, k in left if k == j and i > j)
            column = {i: solve_triangular(L, left[i, j].mT, upper=False).mT for i in rows}
            for i in rows:
                for k in (k for k in rows if k <= i):
                    known = left.get((i, k))
                    product = column[i] @ column[k].mT
                    left[i, k] = -product if known is None else known - product
            columns.append({j: L, **column})
        return SparseCholesky(self.pieces, columns)

    def find_largest(self) -> float:
        """The largest number on the diagonal."""
        return max(float(A.diagonal().max()) for (i, j), A in self.blocks.items() if i == j)

    def make_dense(self) -> Tensor:
        """A (n, n)."""
        n = sum(len(piece) for piece in self.pieces)
        A = next(iter(self.blocks.values())).new_zeros(n, n)
        for (i, j), known in self.blocks.items():
            block = known.tril() + known.tril(-1).mT if i == j else known
            A[self.pieces[i][:, None], self.pieces[j]] = block
            A[self.pieces[j][:, None], self.pieces[i]] = block.mT
        return A


class SparseCholesky:
    """The factor L, by columns: L_ij by i, the diagonal block first."""

    def __init__(self, pieces: Sequence[Tensor], columns: Sequence[dict[int, Tensor]]) -> None:
        self._pieces, self._columns = pieces, columns

    def solve(self, right: Tensor) -> Tensor:
        """A⁻¹ b (n,) for b (n,)."""
        with one_thread():
            return self._solve(right)

    def _solve(self, right: Tensor) -> Tensor:
        x = [right[piece] for piece in self._pieces]
        for j, column in enumerate(self._columns):
            x[j] = substitute(column[j], x[j], transposed=False)
            for i in list(column)[1:]:
                x[i] = x[i] - torch.mv(column[i], x[j])
        for j, column in reversed(list(enumerate(self._columns))):
            for i in list(column)[1:]:
                x[j] = x[j] - torch.mv(column[i].mT, x[i])
            x[j] = substitute(column[j], x[j], transposed=True)
        found = torch.empty_like(right)
        for piece, own in zip(self._pieces, x, strict=True):
            found[piece] = own
        return found
