"""Cholesky factors of a symmetric positive definite matrix of few blocks that are not zero.

A (n, n) is cut by pieces of the unknowns, in the order of their elimination (`linalg.elimination`).
Of block rows i and columns j ≤ i only those are kept that the pattern has, and what elimination
fills. For j = 0, 1, …

    L_jj L_jjᵀ = A_jj,   L_ij = A_ij L_jj⁻ᵀ,   A_ik ← A_ik - L_ij L_kjᵀ   for i ≥ k > j in column j.

All columns of one level of the elimination tree are eliminated at once. Each block belongs to one
rank, which computes what is written to it; ranks exchange the L_jj of a level, and then its L_ij,
so that L is on all of them in the end. A block's products are subtracted in the order of j,
whichever rank has it: the bits are those of one rank. In a solution pieces of x belong to ranks.
One thread of a rank computes its part: torch divides products among several in ways of its own.

Sources: A. George, J. Liu, Computer Solution of Large Sparse Positive Definite Systems (1981);
M. Heath, E. Ng, B. Peyton, Parallel algorithms for sparse linear systems, SIAM Review 33 (1991),
section 5 (fan-out).
"""

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from hpctrain.linalg.elimination import Elimination
from hpctrain.linalg.vectors import one_thread, substitute
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.owners import find_piece_owner, join_pieces, share_tensors

Block = tuple[int, int]


@cache
def find_owners(elimination: Elimination, ranks: int) -> dict[Block, int]:
    """The rank of each block of the factor: in turn, so that those of a column are on many."""
    return {block: k % ranks for k, block in enumerate(elimination.blocks)}


class SparseBlocks:
    """The blocks of the lower triangle, divided among ranks.

    Args:
        ranks: all of them.
        pieces: the entries of each piece among the n, which are all of them, as they are
            eliminated.
        elimination: of a pattern that has all blocks.
        own: this rank's A_ij by (i, j), i ≥ j, where they are not zero; of diagonal ones the lower
            triangle is read.
        like: of the precision and on the device of the blocks.
    """

    def __init__(
        self,
        ranks: Communicator,
        pieces: Sequence[Tensor],
        elimination: Elimination,
        own: Mapping[Block, Tensor],
        like: Tensor,
    ) -> None:
        self.pieces, self.elimination, self.own = pieces, elimination, own
        self._ranks, self._like = ranks, like
        self._owners = find_owners(elimination, ranks.size)

    def factorise(self, shift: float) -> "SparseCholesky | None":
        """L of A + shift·I; None where that is not positive definite in floating-point numbers."""
        with one_thread():
            return self._factorise(shift)

    def _factorise(self, shift: float) -> "SparseCholesky | None":
        left = {block: self._copy(block) for block in self._pick(self.elimination.blocks)}
        rows_of, L = self.elimination.rows, dict[Block, Tensor]()
        for level in self.elimination.levels:
            corners = [(j, j) for j in level]
            L |= self._share({b: _factor(left.pop(b), shift) for b in self._pick(corners)}, corners)
            if any(bool(L[corner].diagonal().isnan().any()) for corner in corners):
                return None
            below = [(i, j) for j in level for i in rows_of[j]]
            own = self._pick(below)
            L |= self._share({(i, j): _divide(left.pop((i, j)), L[j, j]) for i, j in own}, below)
            for j in level:
                pairs = [(i, k) for i in rows_of[j] for k in rows_of[j] if k <= i]
                for i, k in self._pick(pairs):
                    left[i, k].addmm_(L[i, j], L[k, j].mT, alpha=-1)
        return SparseCholesky(self._ranks, self.pieces, self.elimination, L)

    def _pick(self, blocks: Sequence[Block]) -> list[Block]:
        """Those that belong to this rank."""
        return [block for block in blocks if self._owners[block] == self._ranks.rank]

    def _find_shape(self, block: Block) -> tuple[int, int]:
        i, j = block
        return len(self.pieces[i]), len(self.pieces[j])

    def _copy(self, block: Block) -> Tensor:
        if block in self.own:
            return self.own[block].clone(memory_format=torch.contiguous_format)
        return self._like.new_zeros(self._find_shape(block))

    def _share(self, own: Mapping[Block, Tensor], blocks: Sequence[Block]) -> dict[Block, Tensor]:
        shapes = {block: self._find_shape(block) for block in blocks}
        return share_tensors(own, shapes, self._owners.__getitem__, self._ranks, self._like)

    def find_largest(self) -> float:
        """The largest number on the diagonal; collective."""
        own = (float(A.diagonal().max()) for (i, j), A in self.own.items() if i == j)
        return max(self._ranks.allgather(max(own, default=0.0)))


def _factor(A: Tensor, shift: float) -> Tensor:
    """L of A + shift·I, or numbers that are none."""
    A.diagonal().add_(shift)
    L, failed = torch.linalg.cholesky_ex(A)
    return torch.full_like(A, torch.nan) if int(failed) else L


def _divide(A: Tensor, L: Tensor) -> Tensor:
    """A L⁻ᵀ."""
    return solve_triangular(L, A.mT, upper=False).mT


class SparseCholesky:
    """The factor L on every rank, by blocks; see `SparseBlocks`."""

    def __init__(
        self,
        ranks: Communicator,
        pieces: Sequence[Tensor],
        elimination: Elimination,
        blocks: Mapping[Block, Tensor],
    ) -> None:
        self._pieces, self._elimination, self._blocks = pieces, elimination, blocks
        self._ranks = ranks

    def solve(self, right: Tensor) -> Tensor:
        """A⁻¹ b (n,) for b (n,); collective."""
        with one_thread():
            return self._solve(right)

    def _solve(self, right: Tensor) -> Tensor:
        e, L = self._elimination, self._blocks
        x = {j: right[piece] for j, piece in enumerate(self._pieces)}
        for level in e.levels:
            own = {j: substitute(L[j, j], x[j], transposed=False) for j in self._pick(level)}
            x |= self._share(own, level)
            for j in level:
                for i in self._pick(e.rows[j]):
                    x[i] = torch.addmv(x[i], L[i, j], x[j], alpha=-1)
        for level in reversed(e.levels):
            own = {i: substitute(L[i, i], x[i], transposed=True) for i in self._pick(level)}
            x |= self._share(own, level)
            for i in level:
                for j in self._pick(e.columns[i]):
                    x[j] = torch.addmv(x[j], L[i, j].mT, x[i], alpha=-1)
        return join_pieces(x, self._pieces, right)

    def _pick(self, pieces: Sequence[int]) -> list[int]:
        """Those that belong to this rank."""
        return [j for j in pieces if self._find_owner(j) == self._ranks.rank]

    def _find_owner(self, piece: int) -> int:
        return find_piece_owner(piece, self._ranks.size)

    def _share(self, own: Mapping[int, Tensor], pieces: Sequence[int]) -> dict[int, Tensor]:
        shapes = {j: (len(self._pieces[j]),) for j in pieces}
        return share_tensors(own, shapes, self._find_owner, self._ranks, self._blocks[0, 0])
