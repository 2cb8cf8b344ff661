"""Which parameters of a sum of squared residuals have rows of J in common, where few have.

Pieces of θ are the parameters of subdomains, and the unknowns behind them. A cell are the samples
whose residuals depend on the same pieces, and JᵀJ is the sum over the cells of dense matrices of
their parameters.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from torch import Tensor

from hpctrain.linalg.elimination import Elimination, find_elimination


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

    @cached_property
    def elimination(self) -> Elimination:
        """In which order the pieces of JᵀJ are eliminated."""
        return find_elimination(
            len(self.all_pieces), tuple(tuple(self.list_pieces(cell)) for cell in self.cells)
        )

    @cached_property
    def eliminated(self) -> list[Tensor]:
        """All pieces in that order."""
        return [self.all_pieces[i] for i in self.elimination.order]

    def split_gram(self, number: int, G: Tensor) -> dict[tuple[int, int], Tensor]:
        """The blocks i ≥ j, by places in the order of elimination, of a cell's JᵀJ.

        Args:
            number: of the cell.
            G: of its columns, of which the lower triangle is known.
        """
        places, blocks = self.elimination.places, dict[tuple[int, int], Tensor]()
        columns = list(self.place_columns(self.cells[number]).items())
        for last, (p, rows) in enumerate(columns, 1):
            for q, others in columns[:last]:
                i, j, block = places[p], places[q], G[rows, others]
                blocks[max(i, j), min(i, j)] = block if i >= j else block.mT
        return blocks
