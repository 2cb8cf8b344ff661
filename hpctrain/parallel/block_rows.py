"""Cholesky factors of a symmetric positive definite matrix whose block rows lie on several ranks.

Only the lower triangle of A (n, n) is stored, in block rows of w = `WIDTH` rows: block row i is
A[iw:(i+1)w, :(i+1)w]. Ranks have them in turn, so that each has about n²/(2P) numbers, and still a
P-th of what is left at any time of the factorisation. For j = 0, 1, …

    L_jj L_jjᵀ = A_jj - Σ_k L_jk L_jkᵀ,   L_ij = (A_ij - Σ_k L_ik L_jkᵀ) L_jj⁻ᵀ for i > j,   k < j:

The rank of row j computes L_jj and sends the row to all. Each rank then computes the L_ij of its
own rows, and subtracts L_ij L_ijᵀ from A_ii at once. Row j + 1 comes first, so that it is under way
while the rows behind it are computed. Products are of the same blocks on any number of ranks, and
so the bits are the same. How a row of L lies in memory is the kernels' choice (`kernels.cholesky`).

Source: Golub and Van Loan, Matrix Computations (2013), sections 4.2.9 and 6.3.
"""

from collections.abc import Callable

from torch import Tensor

from hpctrain.kernels.cholesky import FactorRows, Solve, copy_rows, is_broken
from hpctrain.linalg.block_layout import Layout
from hpctrain.parallel.communicator import Communicator


class BlockRows:
    """The lower triangle of a symmetric A (n, n), with this rank's block rows.

    Args:
        communicator: the ranks among which A is divided.
        layout: which rank has which block rows.
        numbers: this rank's block rows, one after the other; see `Layout.unpack`.
        threads: this rank's, for the compiled kernels.
    """

    def __init__(
        self, communicator: Communicator, layout: Layout, numbers: Tensor, threads: int = 1
    ) -> None:
        self.layout = layout
        self._communicator, self._numbers, self._threads = communicator, numbers, threads

    @property
    def own(self) -> dict[int, Tensor]:
        """This rank's block rows by their numbers i."""
        return self.layout.unpack(self._numbers, self._communicator.rank)

    def factorise(self, shift: float) -> "Cholesky | None":
        """Computes the Cholesky factor L of A + shift·I on every rank; collective.

        Returns:
            L, or None where A + shift·I is not positive definite in floating-point arithmetic.
        """
        rank, count = self._communicator.rank, self.layout.count
        own = copy_rows(self._numbers, self.layout, rank, shift, self._threads)
        rows = list[Tensor]()
        coming = self._send_row(own, 0)
        for j in range(count):
            known, arrive = coming
            arrive()
            if is_broken(known):
                return None
            rows.append(known)
            if j + 1 < count:
                own.eliminate(known, j, j + 1, j + 2)
                coming = self._send_row(own, j + 1)
            own.eliminate(known, j, j + 2, count)
        return Cholesky(own.bind_solve(rows))

    def find_largest(self) -> float:
        """The largest number on the diagonal; collective."""
        corners = (row[:, -len(row) :] for row in self.own.values())
        own = max((float(corner.diagonal().max()) for corner in corners), default=0.0)
        return max(self._communicator.allgather(own))

    def _send_row(self, own: FactorRows, j: int) -> tuple[Tensor, Callable[[], None]]:
        """Completes row j of L on the rank that has it, and starts to send it to all.

        Returns:
            The row, and a function that waits until it is there.
        """
        home = self.layout.find_rank(j)
        if home == self._communicator.rank:
            own.factor_corner(j)
            row = own.get_row(j)
        else:
            row = own.make_row(j)
        return row, self._communicator.start_broadcast(row, home)


class Cholesky:
    """The Cholesky factor L of A = L Lᵀ: all of its block rows, on every rank."""

    def __init__(self, solve: Solve) -> None:
        self._solve = solve

    def solve(self, right: Tensor) -> Tensor:
        """Computes A⁻¹ b (n,) for b (n,)."""
        return self._solve(right)
