"""Cholesky factors of a symmetric positive definite matrix whose block rows lie on several ranks.

Only the lower triangle of A (n, n) is stored, in block rows of w = `WIDTH` rows: block row i is
A[iw:(i+1)w, :(i+1)w]. Ranks have them in turn, so that each has about n²/(2P) numbers, and still a
P-th of what is left at any time of the factorisation. For j = 0, 1, …

    L_jj L_jjᵀ = A_jj - Σ_k L_jk L_jkᵀ,   L_ij = (A_ij - Σ_k L_ik L_jkᵀ) L_jj⁻ᵀ for i > j,   k < j:

The rank of row j computes L_jj and sends the row to all. Each rank then computes the L_ij of its
own rows, and subtracts L_ij L_ijᵀ from A_ii at once. Row j + 1 comes first, so that it is under way
while the rows behind it are computed. Products are of the same blocks on any number of ranks, and
so the bits are the same.

Source: Golub and Van Loan, Matrix Computations (2013), sections 4.2.9 and 6.3.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from hpctrain.linalg.block_layout import Layout
from hpctrain.parallel.communicator import Communicator


class BlockRows:
    """The lower triangle of a symmetric A (n, n), with this rank's block rows.

    Args:
        communicator: the ranks among which A is divided.
        layout: which rank has which block rows.
        numbers: this rank's block rows, one after the other; see `Layout.unpack`.
    """

    def __init__(self, communicator: Communicator, layout: Layout, numbers: Tensor) -> None:
        self.layout = layout
        self.own = layout.unpack(numbers, communicator.rank)
        self._communicator = communicator
        self._none = numbers[:0]

    def factorise(self, shift: float) -> "Cholesky | None":
        """Computes the Cholesky factor L of A + shift·I on every rank; collective.

        Returns:
            L, or None where A + shift·I is not positive definite in floating-point arithmetic.
        """
        left = {i: row.clone() for i, row in self.own.items()}
        for row in left.values():
            _view_corner(row).diagonal().add_(shift)
        rows = list[Tensor]()
        coming = self._send_row(left.pop(0, None), 0)
        for j in range(self.layout.count):
            known, arrive = coming
            arrive()
            if bool(known[0, -1].isnan()):
                return None
            rows.append(known)
            if j + 1 < self.layout.count:
                ahead = left.pop(j + 1, None)
                if ahead is not None:
                    _eliminate(known, ahead)
                coming = self._send_row(ahead, j + 1)
            for row in left.values():
                _eliminate(known, row)
        return Cholesky(rows)

    def _send_row(self, row: Tensor | None, j: int) -> tuple[Tensor, Callable[[], None]]:
        """Starts to send row j of L to all ranks.

        Args:
            row: it, on the rank that has it; None on the others.

        Returns:
            The row, and a function that waits until it is there. Its first line ends with NaN where
            A + shift·I is not positive definite.
        """
        if row is None:
            row = self._none.new_empty(self.layout.find_shape(j))
        else:
            L, failed = torch.linalg.cholesky_ex(_view_corner(row))
            _view_corner(row).copy_(L)
            if int(failed):
                row[0, -1] = torch.nan
        return row, self._communicator.start_broadcast(row, self.layout.find_rank(j))


def _eliminate(known: Tensor, row: Tensor) -> None:
    """Computes L_ij in block row i, and subtracts L_ij L_ijᵀ from A_ii.

    Args:
        known: row j < i of L.
        row: block row i, which is changed.
    """
    last = known.shape[1]
    first = last - len(known)
    part = row[:, first:last].addmm_(row[:, :first], known[:, :first].T, alpha=-1)
    part.copy_(solve_triangular(_view_corner(known), part.mT, upper=False).mT)
    _view_corner(row).addmm_(part, part.T, alpha=-1)


def _view_corner(row: Tensor) -> Tensor:
    """Returns the diagonal block of a block row."""
    return row[:, -len(row) :]


class Cholesky:
    """The Cholesky factor L of A = L Lᵀ: all of its block rows, on every rank."""

    def __init__(self, rows: list[Tensor]) -> None:
        self._rows = rows

    def solve(self, right: Tensor) -> Tensor:
        """Computes A⁻¹ b (n,) for b (n,)."""
        x = right.clone()
        for row in self._rows:
            before, here, known = self._cut(x, row)
            here.addmv_(known, before, alpha=-1)
            here.copy_(_solve_triangular(_view_corner(row), here, transposed=False))
        for row in reversed(self._rows):
            before, here, known = self._cut(x, row)
            here.copy_(_solve_triangular(_view_corner(row), here, transposed=True))
            before.addmv_(known.T, here, alpha=-1)
        return x

    @staticmethod
    def _cut(x: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cuts x before and at a block row's corner, and the row before it."""
        last = row.shape[1]
        first = last - len(row)
        return x[:first], x[first:last], row[:, :first]


def _solve_triangular(L: Tensor, b: Tensor, transposed: bool) -> Tensor:
    return solve_triangular(L.mT if transposed else L, b[:, None], upper=transposed)[:, 0]
