"""Which parameters of a sum of squared residuals have rows of J in common, where few have.

Pieces of θ are the parameters of subdomains, and the unknowns behind them. A cell are the samples
whose residuals depend on the same pieces, and JᵀJ is the sum over the cells of dense matrices of
their parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from torch import Tensor

from hpctrain.linalg.sparse_blocks import Blocks, SparseBlocks


@dataclass(frozen=True)
class Coupling:
    """The pieces and the cells.

    Attributes:
        pieces: entries of θ, ascending, of each subdomain.
        cells: the numbers of the pieces of each, ascending, without the unknowns.
        unknowns: entries of θ on which all rows may depend.
    """

    pieces: tuple[Tensor, ...]
    cells: tuple[tuple[int, ...], ...]
    unknowns: Tensor

    @cached_property
    def all_pieces(self) -> list[Tensor]:
        """Those of subdomains, then the unknowns, if there are any."""
        return [*self.pieces, *([self.unknowns] if len(self.unknowns) else [])]

    def list_pieces(self, cell: tuple[int, ...]) -> list[int]:
        """The numbers of all pieces on which rows of a cell depend."""
        return [*cell, *range(len(self.pieces), len(self.all_pieces))]

    def count_columns(self, cell: tuple[int, ...]) -> int:
        """The number of parameters on which rows of a cell depend."""
        return sum(len(self.all_pieces[i]) for i in self.list_pieces(cell))

    def place_columns(self, cell: tuple[int, ...]) -> dict[int, slice]:
        """Where the parameters of each piece are among those of a cell, by the piece's number."""
        numbers = self.list_pieces(cell)
        ends = accumulate((len(self.all_pieces[i]) for i in numbers), initial=0)
        return {i: slice(*pair) for i, pair in zip(numbers, pairwise(ends), strict=True)}

    @property
    def numbers(self) -> int:
        """How many the matrices of all cells have."""
        return sum(self.count_columns(cell) ** 2 for cell in self.cells)

    def split(self, numbers: Tensor) -> list[Tensor]:
        """The matrix (n, n) of each cell in the memory of all of them, (`self.numbers`,)."""
        sizes = [self.count_columns(cell) for cell in self.cells]
        squares = numbers.split([n * n for n in sizes])
        return [each.view(n, n) for each, n in zip(squares, sizes, strict=True)]

    def make_matrix(self, grams: Sequence[Tensor]) -> SparseBlocks:
        """JᵀJ of the cells' matrices, piece after piece, of which the lower triangles are known."""
        blocks: Blocks = {
            (i, i): grams[0].new_zeros(len(piece), len(piece))
            for i, piece in enumerate(self.all_pieces)
        }
        for cell, G in zip(self.cells, grams, strict=True):
            places = list(self.place_columns(cell).items())
            for p, (i, rows) in enumerate(places):
                for j, columns in places[: p + 1]:
                    known, own = blocks.get((i, j)), G[rows, columns]
                    blocks[i, j] = own if known is None else known.add_(own)
        return SparseBlocks(self.all_pieces, blocks)
