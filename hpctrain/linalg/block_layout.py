"""Which rank has which block rows of a symmetric matrix, and where they lie in its memory."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

from torch import Tensor

# Wide enough for products at full speed, narrow enough for L_jj to be found soon: all wait for it.
WIDTH = 96


@dataclass(frozen=True)
class Layout:
    """Which rank has which block rows of (n, n)."""

    n: int
    ranks: int

    @property
    def count(self) -> int:
        """The number of block rows."""
        return -(-self.n // WIDTH)

    def list_rows(self, rank: int) -> list[int]:
        """The block rows of a rank."""
        return [i for i in range(self.count) if self.find_rank(i) == rank]

    def find_rank(self, i: int) -> int:
        """0, 1, …, P - 1, P - 1, …, 1, 0, 0, 1, …: later rows are longer."""
        place = i % (2 * self.ranks)
        return min(place, 2 * self.ranks - 1 - place)

    def find_shape(self, i: int) -> tuple[int, int]:
        """Rows and columns of block row i."""
        last = min((i + 1) * WIDTH, self.n)
        return last - i * WIDTH, last

    def count_numbers(self, i: int) -> int:
        """Numbers in block row i."""
        height, width = self.find_shape(i)
        return height * width

    @property
    def sizes(self) -> list[int]:
        """Numbers in the block rows of each rank."""
        return [sum(map(self.count_numbers, self.list_rows(rank))) for rank in range(self.ranks)]

    def find_slices(self, i: int) -> tuple[slice, slice]:
        """Where block row i lies in A."""
        height, width = self.find_shape(i)
        return slice(width - height, width), slice(width)

    @cached_property
    def places(self) -> list[int]:
        """Where each block row begins among the numbers of all, which stand rank after rank."""
        order = list(chain.from_iterable(map(self.list_rows, range(self.ranks))))
        ends = accumulate(map(self.count_numbers, order))
        found = {i: end - self.count_numbers(i) for i, end in zip(order, ends, strict=True)}
        return [found[i] for i in range(self.count)]

    def unpack(self, numbers: Tensor, rank: int) -> dict[int, Tensor]:
        """A rank's block rows, views of its numbers: one row after the other, in order."""
        own = self.list_rows(rank)
        parts = numbers.split([self.count_numbers(i) for i in own])
        return {i: part.view(self.find_shape(i)) for i, part in zip(own, parts, strict=True)}
