"""Divides the rows of a matrix among the ranks.

The rows are cut into parts that do not depend on the number of ranks, so that sums over the parts
have the same bits on any ranks; a rank holds whole parts.
"""

from functools import cache

from hpctrain.parallel.tree import share_chunks

# Least number of parts: of more ranks each has one of its own.
PARTS = 64


@cache
def cut_rows(n: int, ranks: int) -> tuple[tuple[int, ...], ...]:
    """The bounds of each rank's parts of the rows 0 … n - 1; its rows are from first to last."""
    parts = max(PARTS, 1 << (ranks - 1).bit_length())
    bounds = [part * n // parts for part in range(parts + 1)]
    return tuple(tuple(bounds[first : last + 1]) for first, last in share_chunks(parts, ranks))


def find_row_ranges(n: int, ranks: int) -> list[tuple[int, int]]:
    """The rows (first, last) of n that each rank holds."""
    return [(bounds[0], bounds[-1]) for bounds in cut_rows(n, ranks)]
