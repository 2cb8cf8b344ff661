"""In which order the block columns of a sparse symmetric matrix are eliminated, and what waits.

Vertices of a graph stand for block columns, edges for blocks that are not zero. Eliminating a
vertex makes its neighbours a clique: the new edges are fill, and the neighbours the rows of its
column of the Cholesky factor. The column changes those of its neighbours only; the first of them to
be eliminated is its parent in the elimination tree.

The next vertex is one with the least fill, of several one that waits for the shortest chain of
others. So columns on all branches of the tree are eliminated beside each other: where all have the
same fill, as in a ring, every second one comes first, then every fourth, and so on.

Sources: W. Tinney, J. Walker, Direct solutions of sparse network equations by optimally ordered
triangular factorization, Proceedings of the IEEE 55 (1967), scheme 3; J. Liu, The role of
elimination trees in sparse factorization, SIAM J. Matrix Anal. Appl. 11 (1990).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from typing import NamedTuple


@dataclass(frozen=True)
class Elimination:
    """Columns are named by their places in the order of elimination, 0, 1, …

    Attributes:
        order: which vertex has each place.
        rows: of each column of the factor those below the diagonal, ascending.
        levels: the columns at each height of the elimination tree, which are consecutive. Columns
            of one level change none of the same level.
    """

    order: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]
    levels: tuple[range, ...]

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The place of each vertex."""
        found = {vertex: place for place, vertex in enumerate(self.order)}
        return tuple(found[vertex] for vertex in range(len(self.order)))

    @cached_property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """Of each row of the factor the columns before the diagonal, ascending."""
        found: list[list[int]] = [[] for _ in self.rows]
        for j, rows in enumerate(self.rows):
            for i in rows:
                found[i].append(j)
        return tuple(map(tuple, found))

    @cached_property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Those (i, j) of the factor, column after column."""
        return tuple((i, j) for j, rows in enumerate(self.rows) for i in (j, *rows))


class Candidate(NamedTuple):
    """A vertex that may be eliminated next.

    Attributes:
        fill: the edges that this would add.
        degree: of its neighbours that are left, how many there are.
        height: of its column in the elimination tree.
    """

    vertex: int
    fill: int
    degree: int
    height: int


def by_least_fill(candidate: Candidate) -> tuple[int, ...]:
    """What is least for the next vertex."""
    return candidate.fill, candidate.height, candidate.vertex


@cache
def find_elimination(
    count: int,
    cliques: Sequence[tuple[int, ...]],
    prefer: Callable[[Candidate], tuple[int, ...]] = by_least_fill,
) -> Elimination:
    """Eliminates vertices one after the other.

    Args:
        count: the number of vertices.
        cliques: vertices of which each is coupled to all others.
        prefer: what is least for the next vertex.
    """
    near: list[set[int]] = [set() for _ in range(count)]
    for clique in cliques:
        for vertex in clique:
            near[vertex].update(set(clique) - {vertex})
    heights, rows = [0] * count, dict[int, set[int]]()

    def describe(vertex: int) -> Candidate:
        own = near[vertex]
        fill = sum(len(own) - 1 - len(own & near[i]) for i in own) // 2
        return Candidate(vertex, fill, len(own), heights[vertex])

    left = {vertex: describe(vertex) for vertex in range(count)}
    while left:
        chosen = min(left.values(), key=prefer).vertex
        del left[chosen]
        own = rows[chosen] = near[chosen]
        for i in own:
            near[i] = (near[i] | own) - {i, chosen}
            heights[i] = max(heights[i], heights[chosen] + 1)
        for i in own.union(*(near[i] for i in own)):
            left[i] = describe(i)
    return _sort_by_height(heights, rows)


def _sort_by_height(heights: Sequence[int], rows: Mapping[int, set[int]]) -> Elimination:
    """Level after level of the elimination tree, in which columns have the same rows."""
    order = sorted(rows, key=lambda vertex: heights[vertex])
    places = {vertex: place for place, vertex in enumerate(order)}
    ends = list(accumulate(Counter(heights)[height] for height in range(max(heights) + 1)))
    return Elimination(
        tuple(order),
        tuple(tuple(sorted(places[i] for i in rows[vertex])) for vertex in order),
        tuple(map(range, [0, *ends], ends)),
    )
