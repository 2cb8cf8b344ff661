"""A tall matrix T (n, m), n >> m, whose rows lie in chunks on several ranks.

It is the transpose of a wide one, such as a Jacobian of more parameters than residuals, whose rows
the ranks have computed: each sends every other one the columns of its rows that belong there, so
that a rank receives m n / P numbers, the P-th part of the matrix, and not all of its rows. From
there TᵀT (m, m) and Tᵀv are sums over chunks along the tree, and a product T y needs no sum.

Chunk c has the rows c n / C … (c + 1) n / C - 1 on any number of ranks: so the bits are the same.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hpctrain.linalg.block_layout import Layout
from hpctrain.linalg.vectors import one_thread
from hpctrain.objective import Objective
from hpctrain.parallel.block_rows import BlockRows
from hpctrain.parallel.tree import Node, find_aligned_nodes, push_node, share_chunks

# Block rows that are computed by one product: at full speed, with little above the diagonal.
STRIP = 4


class TallMatrix:
    """T (n, m), with this rank's chunks of its rows.

    Args:
        objective: whose ranks and chunks T has.
        parts: the chunks (n_c, m) of this rank's `tree.share_chunks`.
    """

    def __init__(self, objective: Objective, parts: Sequence[Tensor]) -> None:
        self._ranks, self._parts = objective.communicator, parts
        self._chunks = objective.chunks
        self._sizes = [len(part) for part in parts]
        ranges = share_chunks(self._chunks, self._ranks.size)
        self._bounds = [_find_bound(first, objective) for first, _ in ranges]
        self._bounds.append(objective.parameters)

    def multiply(self, y: Tensor) -> Tensor:
        """Computes T y (n,) on every rank, by one gather."""
        counts = [last - first for first, last in pairwise(self._bounds)]
        with one_thread():
            own = torch.cat([torch.mv(part, y) for part in self._parts])
        return self._ranks.allgather_rows(own, counts)

    def multiply_transposed(self, v: Tensor) -> Tensor:
        """Computes Tᵀ v (m,) on every rank, by one sum."""
        first, last = self._bounds[self._ranks.rank : self._ranks.rank + 2]
        pieces = v[first:last].split(self._sizes)
        with one_thread():
            pairs = zip(self._parts, pieces, strict=True)
            leaves = torch.stack([torch.mv(part.T, piece) for part, piece in pairs])
        return self._ranks.sum_leaves(leaves, self._chunks)

    def compute_gram(self) -> BlockRows:
        """Computes TᵀT (m, m), divided among the ranks by block rows, by one sum."""
        ranks, m = self._ranks, self._parts[0].shape[1]
        layout = Layout(m, ranks.size)
        held = find_aligned_nodes(*share_chunks(self._chunks, ranks.size)[ranks.rank])
        sums = [self._parts[0].new_empty(sum(layout.sizes)) for _ in held]
        for first in range(0, layout.count, STRIP):
            numbers = range(first, min(first + STRIP, layout.count))
            for G, (_, product) in zip(sums, self._sum_strip(layout, numbers), strict=True):
                _pack(product, layout, numbers, G)
        return BlockRows(ranks, layout, ranks.sum_parts_by_tree(sums, self._chunks, layout.sizes))

    def _sum_strip(self, layout: Layout, numbers: range) -> list[tuple[Node, Tensor]]:
        """Block rows of TᵀT that follow each other, as one, of each of this rank's subtrees."""
        rows, columns = layout.find_slices(numbers[0])[0].start, layout.find_slices(numbers[-1])[1]
        chunk, _ = share_chunks(self._chunks, self._ranks.size)[self._ranks.rank]
        sums = list[tuple[Node, Tensor]]()
        with one_thread():
            for number, part in enumerate(self._parts, start=chunk):
                product = part[:, rows : columns.stop].T @ part[:, columns]
                push_node(sums, Node(0, number), product)
        return sums


def _pack(strip: Tensor, layout: Layout, numbers: range, G: Tensor) -> None:
    """Copies block rows that follow each other to their places in G, up to the diagonal."""
    heights = [layout.find_shape(i)[0] for i in numbers]
    for i, rows in zip(numbers, strip.split(heights), strict=True):
        height, width = layout.find_shape(i)
        place = layout.places[i]
        G[place : place + height * width].view(height, width).copy_(rows[:, :width])


def transpose_rows(rows: Tensor, counts: Sequence[int], objective: Objective) -> TallMatrix:
    """Makes T (n, m) of the rows of Tᵀ, of which each rank has some; collective.

    Args:
        rows: this rank's (counts[rank], n).
        counts: of all ranks, m together.
        objective: whose ranks and chunks T has.
    """
    ranks = objective.communicator
    ranges = share_chunks(objective.chunks, ranks.size)
    bounds = [[_find_bound(chunk, objective) for chunk in range(a, b + 1)] for a, b in ranges]
    sent = [rows[:, each[0] : each[-1]].T.contiguous() for each in bounds]
    own = bounds[ranks.rank]
    received = ranks.exchange_all(sent, [(own[-1] - own[0], count) for count in counts])
    by_rank = [piece.split([b - a for a, b in pairwise(own)]) for piece in received]
    parts = zip(*by_rank, strict=True)
    return TallMatrix(objective, [torch.cat(p, 1) if len(p) > 1 else p[0] for p in parts])


def _find_bound(chunk: int, objective: Objective) -> int:
    """The first row of a chunk."""
    return chunk * objective.parameters // objective.chunks
