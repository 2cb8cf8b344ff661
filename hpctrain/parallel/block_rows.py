"""A symmetric positive definite matrix in block rows over the ranks, and its Cholesky factor.

Of a symmetric A (n, n) only the lower triangle is kept, in block rows of w = `WIDTH` rows: block
row i is A[iw:(i+1)w, :(i+1)w]. The ranks take turns to have one, so that each has about n²/(2P)
numbers and, as the factorisation goes on, still a P-th of what is left of it. For j = 0, 1, …

    L_jj L_jjᵀ = A_jj - Σ_k L_jk L_jkᵀ,   L_ij = (A_ij - Σ_k L_ik L_jkᵀ) L_jj⁻ᵀ for i > j,   k < j:

the rank that has row j finds L_jj and sends the row to all, and each finds the L_ij of its own
rows. A row's sums for L_ii are made as its L_ij come up, so that nobody waits for them, and row
j + 1 comes first of all: it travels while the rows after it are computed. Every product is of the
same blocks whoever computes it: equal bits on any number of ranks.

Source: Golub and Van Loan, Matrix Computations (2013), sections 4.2.9 and 6.3.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from hpctrain.linalg.block_layout import Layout
from hpctrain.parallel.communicator import Communicator


class BlockRows:
    """The lower triangle of a symmetric A (n, n), this rank's block rows of it.

    Args:
        communicator: the ranks that hold A.
        layout: which of them has what.
        numbers: of this rank's block rows, as `Layout.unpack` takes them.
    """

    def __init__(self, communicator: Communicator, layout: Layout, numbers: Tensor) -> None:
        self.layout = layout
        self.own = layout.unpack(numbers, communicator.rank)
        self._communicator = communicator
        self._none = numbers[:0]

    def factorise(self, shift: float) -> "Cholesky | None":
        """A + shift·I factored, L on every rank; None where it is singular in rounding.

        Collective.
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
        """Row j of L from the rank that has it, on its way, and what waits for it.

        A NaN is at the end of its first line where A + shift·I is singular.
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
    """L_ij, and its part in the sum for L_ii, of row i after row j < i of L is known."""
    last = known.shape[1]
    first = last - len(known)
    part = row[:, first:last].addmm_(row[:, :first], known[:, :first].T, alpha=-1)
    part.copy_(solve_triangular(_view_corner(known), part.mT, upper=False).mT)
    _view_corner(row).addmm_(part, part.T, alpha=-1)


def _view_corner(row: Tensor) -> Tensor:
    """The block of a row on the diagonal."""
    return row[:, -len(row) :]


class Cholesky:
    """L of A = L Lᵀ as its block rows, all of them on every rank."""

    def __init__(self, rows: list[Tensor]) -> None:
        self._rows = rows

    def solve(self, right: Tensor) -> Tensor:
        """A⁻¹ b for b (n,)."""
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
        """x before and at a row's corner, and the row before it."""
        last = row.shape[1]
        first = last - len(row)
        return x[:first], x[first:last], row[:, :first]


def _solve_triangular(L: Tensor, b: Tensor, transposed: bool) -> Tensor:
    return solve_triangular(L.mT if transposed else L, b[:, None], upper=transposed)[:, 0]
