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

from hpctrain.kernels.dense import add_gram_sums, fit_parts
from hpctrain.linalg.block_layout import Layout
from hpctrain.linalg.vectors import one_thread
from hpctrain.objective import Objective
from hpctrain.parallel.block_rows import BlockRows
from hpctrain.parallel.tree import Node, add_to_nodes, share_chunks


class TallMatrix:
    """T (n, m), with this rank's chunks of its rows.

    Args:
        objective: whose ranks and chunks T has.
        parts: the chunks (n_c, m) of this rank's `tree.share_chunks`.
    """

    def __init__(self, objective: Objective, parts: Sequence[Tensor]) -> None:
        self._ranks, self._parts = objective.communicator, parts
        self._chunks, self._threads = objective.chunks, objective.threads
        self._sizes = [len(part) for part in parts]
        ranges = share_chunks(self._chunks, self._ranks.size)
        self._held = ranges[self._ranks.rank]
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
        layout, (first, last) = Layout(m, ranks.size), self._held
        level = fit_parts(max(self._sizes)).bit_length() - 1

        def make_zero() -> Tensor:
            return self._parts[0].new_zeros(sum(layout.sizes))

        def add(node: Node, G: Tensor) -> None:
            parts = self._parts[node.first - first : node.last - first]
            add_gram_sums([[part] for part in parts], 0, G, layout, self._threads)

        with one_thread():
            sums = add_to_nodes(level, first, last, make_zero, add)
        numbers = ranks.sum_parts_by_tree(sums, self._chunks, layout.sizes)
        return BlockRows(ranks, layout, numbers, self._threads)


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
