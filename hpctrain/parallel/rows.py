"""Divides the rows of a matrix among the ranks.

The rows are cut into parts whose bounds do not depend on the number of ranks, and a rank has whole
parts. So sums over the parts have the same bits on any number of ranks.
"""

from dataclasses import dataclass
from functools import cache

from hpctrain.parallel.tree import share_chunks

# Least number of parts: of more ranks each has one of its own.
PARTS = 64


@cache
def cut_rows(n: int, ranks: int) -> tuple[tuple[int, ...], ...]:
    """Cuts the rows 0 … n - 1 into parts, and lists the bounds of the parts of each rank.

    A rank has the rows from its first bound to the one before its last.
    """
    parts = max(PARTS, 1 << (ranks - 1).bit_length())
    bounds = [part * n // parts for part in range(parts + 1)]
    return tuple(tuple(bounds[first : last + 1]) for first, last in share_chunks(parts, ranks))


@cache
def find_row_ranges(n: int, ranks: int) -> tuple[tuple[int, int], ...]:
    """Lists the rows (first, last) of each rank, last excluded."""
    return tuple((bounds[0], bounds[-1]) for bounds in cut_rows(n, ranks))


@dataclass(frozen=True)
class HeldRows:
    """The rows of one rank.

    Attributes:
        first, last: the rows, last excluded.
        bounds: of their parts, counted from the first row.
        parts_before: parts of the ranks before it.
        parts: of all ranks.
        counts: the number of rows of each rank.
    """

    first: int
    last: int
    bounds: tuple[int, ...]
    parts_before: int
    parts: int
    counts: tuple[int, ...]


@cache
def find_held_rows(n: int, ranks: int, rank: int) -> HeldRows:
    """Finds what one of the ranks has of the rows 0 … n - 1."""
    cut, ranges = cut_rows(n, ranks), find_row_ranges(n, ranks)
    first, last = ranges[rank]
    sizes = [len(bounds) - 1 for bounds in cut]
    return HeldRows(
        first,
        last,
        bounds=tuple(bound - first for bound in cut[rank]),
        parts_before=sum(sizes[:rank]),
        parts=sum(sizes),
        counts=tuple(last - first for first, last in ranges),
    )
