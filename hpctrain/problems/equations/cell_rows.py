"""Rows [r J] of samples by the cells that they lie in, J the columns of the cell's pieces alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.kernels.dense import add_square_gram
from hpctrain.objective.coupling import Coupling
from hpctrain.parallel.block_scaling import BlockScaling


@dataclass(frozen=True)
class CellRows:
    """The rows of consecutive chunks of a rank; see `objective.losses.CellRows`.

    Attributes:
        coupling: the cells.
        rows: of each of its cells, then of each chunk, the rows (k, 1 + columns), k > 0, of each
            term that has any.
        threads: for the sums of products.
        like: of their precision, and on their device.
    """

    coupling: Coupling
    rows: Sequence[Sequence[Sequence[Tensor]]]
    threads: int
    like: Tensor

    def sum_grams(self, first: int, last: int) -> dict[int, Tensor]:
        found = dict[int, Tensor]()
        for number, (cell, own) in enumerate(zip(self.coupling.cells, self.rows, strict=True)):
            by_chunk = own[first:last]
            if any(by_chunk):
                n = self.coupling.count_columns(cell)
                found[number] = self.like.new_zeros(n, n)
                add_square_gram(_leave_out_empty(by_chunk), 1, found[number], self.threads)
        return found

    def list_columns(self, number: int) -> list[list[Tensor]]:
        chunks = len(self.rows[0])
        found: list[list[Tensor]] = [[] for _ in range(chunks)]
        for cell, own in zip(self.coupling.cells, self.rows, strict=True):
            place = self.coupling.place_columns(cell).get(number)
            if place is not None:
                for kept, rows in zip(found, own, strict=True):
                    kept += [each[:, 1:][:, place] for each in rows]
        return found

    def scale(self, scaling: BlockScaling) -> "CellRows":
        """The same by z = R θ. A chunk is scaled by itself, so that its bits are no rank's own."""
        scaled = []
        for cell, own in zip(self.coupling.cells, self.rows, strict=True):
            numbers = self.coupling.list_pieces(cell)

            def scale(rows: Tensor, numbers: list[int] = numbers) -> Tensor:
                return torch.cat([rows[:, :1], scaling.scale_columns(rows[:, 1:], numbers)], dim=1)

            scaled.append([[scale(rows) for rows in chunk] for chunk in own])
        return CellRows(self.coupling, scaled, self.threads, self.like)


def _leave_out_empty(parts: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
    """The parts below the lowest node of their tree under which all rows are."""
    while len(parts) > 1:
        half = len(parts) // 2
        if not any(parts[:half]):
            parts = parts[half:]
        elif not any(parts[half:]):
            parts = parts[:half]
        else:
            break
    return parts
