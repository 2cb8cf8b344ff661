"""Block rows of the Cholesky factor L of a matrix, as they are computed and multiplied.

The compiled kernels hold a row in panels of as many rows as their registers take, one column after
the other, so that nothing is copied before it is multiplied; torch holds it by rows. Ranks may send
block rows to each other as they are.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from hpctrain.kernels import find_native_kernels
from hpctrain.linalg.block_layout import WIDTH, Layout
from hpctrain.linalg.vectors import substitute

Solve = Callable[[Tensor], Tensor]


class FactorRows(Protocol):
    """A rank's block rows of L, A + shift·I = L Lᵀ."""

    def make_row(self, i: int) -> Tensor:
        """Returns memory for block row i of another rank."""

    def get_row(self, i: int) -> Tensor:
        """Returns this rank's block row i. Its last number is NaN where L_ii does not exist."""

    def eliminate(self, known: Tensor, j: int, first: int, last: int) -> None:
        """Computes L_ij for the block rows i = first … last - 1 that this rank has.

        Then subtracts L_ij L_ijᵀ from A_ii. Rows need all of j = 0, 1, …, i - 1, in this order.

        Args:
            known: row j of L.
        """

    def factor_corner(self, i: int) -> None:
        """Computes L_ii of this rank's block row i, from which all before it are eliminated."""

    def bind_solve(self, rows: Sequence[Tensor]) -> Solve:
        """Makes the function that computes A⁻¹ b (n,) for b (n,), of all block rows of L."""


def copy_rows(numbers: Tensor, layout: Layout, rank: int, shift: float, threads: int) -> FactorRows:
    """Takes block rows of A to compute those of L.

    Args:
        numbers: of A (n, n), this rank's, which stay as they are; see `Layout.unpack`.
        layout: which rank has which block rows.
        rank: this rank.
        shift: is added to the diagonal.
        threads: the threads of the compiled kernel. The bits do not depend on them.
    """
    if find_native_kernels(numbers) is not None:
        return NativeRows(numbers, layout, rank, shift, threads)
    return TorchRows(numbers, layout, rank, shift)


def is_broken(row: Tensor) -> bool:
    """Whether a block row has no L_ii: A + shift·I is not positive definite in rounding."""
    return math.isnan(row.view(-1)[-1])


class NativeRows:
    """Block rows in the memory of the compiled kernels, which take what they need of A."""

    def __init__(
        self, numbers: Tensor, layout: Layout, rank: int, shift: float, threads: int
    ) -> None:
        self._kernels: Any = find_native_kernels(numbers)
        self._none, own = numbers[:0], layout.list_rows(rank)
        sizes = [_count_packed(i) for i in own]
        memory = numbers.new_empty(sum(sizes))
        self._own = dict(zip(own, memory.split(sizes), strict=True))
        name = "FactorRowsDouble" if numbers.dtype == torch.float64 else "FactorRowsFloat"
        self._rows = getattr(self._kernels, name)(
            numbers.numpy(), own, layout.n, WIDTH, shift, memory.numpy(), threads
        )

    def make_row(self, i: int) -> Tensor:
        return self._none.new_empty(_count_packed(i))

    def get_row(self, i: int) -> Tensor:
        return self._own[i]

    def eliminate(self, known: Tensor, j: int, first: int, last: int) -> None:
        self._rows.eliminate(known.numpy(), j, first, last)

    def factor_corner(self, i: int) -> None:
        self._rows.factor_corner(i)

    def bind_solve(self, rows: Sequence[Tensor]) -> Solve:
        return partial(_solve, self._kernels, [row.numpy() for row in rows])


def _count_packed(i: int) -> int:
    """How many numbers block row i has, with rows beyond the last one and all of its corner."""
    return WIDTH * (i + 1) * WIDTH


def _solve(kernels: Any, rows: Sequence[Any], right: Tensor) -> Tensor:
    x = right.clone()
    kernels.solve_cholesky(rows, WIDTH, x.numpy())
    return x


class TorchRows:
    """Block rows (height, columns), the corner being the last columns."""

    def __init__(self, numbers: Tensor, layout: Layout, rank: int, shift: float) -> None:
        self._layout, self._none = layout, numbers[:0]
        self._own = {i: row.clone() for i, row in layout.unpack(numbers, rank).items()}
        for row in self._own.values():
            _view_corner(row).diagonal().add_(shift)

    def make_row(self, i: int) -> Tensor:
        return self._none.new_empty(self._layout.find_shape(i))

    def get_row(self, i: int) -> Tensor:
        return self._own[i]

    def eliminate(self, known: Tensor, j: int, first: int, last: int) -> None:
        start, end = known.shape[1] - len(known), known.shape[1]
        for row in (row for i, row in self._own.items() if first <= i < last):
            part = row[:, start:end].addmm_(row[:, :start], known[:, :start].T, alpha=-1)
            part.copy_(solve_triangular(_view_corner(known), part.mT, upper=False).mT)
            _view_corner(row).addmm_(part, part.T, alpha=-1)

    def factor_corner(self, i: int) -> None:
        corner = _view_corner(self._own[i])
        L, failed = torch.linalg.cholesky_ex(corner)
        corner.copy_(L)
        if int(failed):
            corner[-1, -1] = torch.nan

    def bind_solve(self, rows: Sequence[Tensor]) -> Solve:
        return partial(_solve_by_rows, rows)


def _solve_by_rows(rows: Sequence[Tensor], right: Tensor) -> Tensor:
    x = right.clone()
    for row in rows:
        before, here, known = _cut(x, row)
        here.addmv_(known, before, alpha=-1)
        here.copy_(substitute(_view_corner(row), here, transposed=False))
    for row in reversed(rows):
        before, here, known = _cut(x, row)
        here.copy_(substitute(_view_corner(row), here, transposed=True))
        before.addmv_(known.T, here, alpha=-1)
    return x


def _cut(x: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts x before and at a block row's corner, and the row before it."""
    last = row.shape[1]
    first = last - len(row)
    return x[:first], x[first:last], row[:, :first]


def _view_corner(row: Tensor) -> Tensor:
    """Returns the diagonal block of a block row."""
    return row[:, -len(row) :]
