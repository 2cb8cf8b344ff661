"""How block rows of a symmetric matrix are divided among ranks, and lie in memory."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

from torch import Tensor

# Wide enough for products at full speed, narrow enough for L_jj to be found soon: all wait for it.
WIDTH = 96


@dataclass(frozen=True)
class Layout:
    """Which rank has which block rows of the lower triangle of a symmetric matrix (n, n).

    Block row i consists of the rows i·w … (i + 1)·w - 1, w = `WIDTH`, up to the diagonal.

    Attributes:
        n: the number of rows.
        ranks: the number of ranks, P.
    """

    n: int
    ranks: int

    @property
    def count(self) -> int:
        """The number of block rows."""
        return -(-self.n // WIDTH)

    def list_rows(self, rank: int) -> list[int]:
        """Lists the block rows of a rank."""
        return [i for i in range(self.count) if self.find_rank(i) == rank]

    def find_rank(self, i: int) -> int:
        """Returns the rank of block row i: 0, 1, …, P - 1, P - 1, …, 1, 0, 0, 1, … for i = 0, 1, …

        Later rows are longer, so that this order gives all ranks about equally many numbers.
        """
        place = i % (2 * self.ranks)
        return min(place, 2 * self.ranks - 1 - place)

    def find_shape(self, i: int) -> tuple[int, int]:
        """Returns the number of rows and of columns of block row i."""
        last = min((i + 1) * WIDTH, self.n)
        return last - i * WIDTH, last

    def count_numbers(self, i: int) -> int:
        """Returns how many numbers block row i has."""
        height, width = self.find_shape(i)
        return height * width

    @property
    def sizes(self) -> list[int]:
        """How many numbers the block rows of each rank have."""
        return [sum(map(self.count_numbers, self.list_rows(rank))) for rank in range(self.ranks)]

    def find_slices(self, i: int) -> tuple[slice, slice]:
        """Returns the rows and the columns of block row i in the matrix."""
        height, width = self.find_shape(i)
        return slice(width - height, width), slice(width)

    @cached_property
    def places(self) -> list[int]:
        """Where each block row begins, if all numbers are stored rank after rank."""
        order = list(chain.from_iterable(map(self.list_rows, range(self.ranks))))
        ends = accumulate(map(self.count_numbers, order))
        found = {i: end - self.count_numbers(i) for i, end in zip(order, ends, strict=True)}
        return [found[i] for i in range(self.count)]

    def unpack(self, numbers: Tensor, rank: int) -> dict[int, Tensor]:
        """Returns a rank's block rows by their numbers i, as views of its numbers.

        Args:
            numbers: those of its block rows, one row after the other.
            rank: the rank.
        """
        own = self.list_rows(rank)
        parts = numbers.split([self.count_numbers(i) for i in own])
        return {i: part.view(self.find_shape(i)) for i, part in zip(own, parts, strict=True)}
