"""Sums over samples along one fixed binary tree, with the same bits on any number of ranks.

The samples are cut into C chunks, C a power of two. Chunk sums are the leaves of a complete binary
tree, and every inner node is the sum of its two children, whoever computes it. Ranks hold
contiguous ranges of leaves. A rank first sums the largest subtrees that lie within its range
(`reduce_leaves`); `list_joins` lists the sums that are left, whose children lie on different ranks.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Node:
    """The node over leaves index·2^level to (index + 1)·2^level - 1; leaves have level 0."""

    level: int
    index: int

    @property
    def first(self) -> int:
        return self.index << self.level

    @property
    def last(self) -> int:
        return (self.index + 1) << self.level

    @property
    def parent(self) -> "Node":
        return Node(self.level + 1, self.index // 2)

    @property
    def children(self) -> tuple["Node", "Node"]:
        return Node(self.level - 1, 2 * self.index), Node(self.level - 1, 2 * self.index + 1)


class Join(NamedTuple):
    """One sum of two nodes: the rank `source` has the right child, `home` has the left one.

    The sum stays with `home`.
    """

    parent: Node
    home: int
    source: int


@cache
def share_chunks(chunks: int, ranks: int) -> tuple[tuple[int, int], ...]:
    """Contiguous ranges (first, last) of chunks for the ranks, equal to within one chunk.

    Each range is one subtree when `ranks` is a power of two.

    Raises:
        ValueError: `chunks` is not a power of two, or there are more ranks than chunks.
    """
    if chunks < 1 or chunks & (chunks - 1):
        raise ValueError(f"the number of sample chunks must be a power of two, not {chunks}")
    if not 1 <= ranks <= chunks:
        raise ValueError(
            f"{ranks} ranks cannot share {chunks} sample chunks: use 1 to {chunks} ranks"
            " or more chunks"
        )
    return tuple((r * chunks // ranks, (r + 1) * chunks // ranks) for r in range(ranks))


@cache
def find_aligned_nodes(first: int, last: int) -> tuple[Node, ...]:
    """The largest subtrees that make up the leaves first, …, last - 1, from left to right."""
    nodes = []
    while first < last:
        level = (last - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        nodes.append(Node(level, first >> level))
        first += 1 << level
    return tuple(nodes)


def list_nodes_up_to(level: int, first: int, last: int) -> list[Node]:
    """The subtrees that make up the leaves first, …, last - 1, none higher than `level`."""
    nodes = list(find_aligned_nodes(first, last))
    while any(node.level > level for node in nodes):
        nodes = [n for node in nodes for n in (node.children if node.level > level else (node,))]
    return nodes


def push_node(sums: list[tuple[Node, Tensor]], node: Node, value: Tensor) -> None:
    """Appends a node's sum to those of the nodes left of it; siblings become their parent.

    Large sums are so added along the tree with few of them in memory; `value` may be overwritten.
    """
    while (left := pop_left_sibling(sums, node)) is not None:
        value, node = left.add_(value), node.parent
    sums.append((node, value))


def pop_left_sibling(sums: list[tuple[Node, Tensor]], node: Node) -> Tensor | None:
    """Takes away the sum of a node's left sibling, if it is the last of those pushed."""
    if sums and node.index % 2 == 1 and sums[-1][0] == Node(node.level, node.index - 1):
        return sums.pop()[1]
    return None


@cache
def list_joins(chunks: int, ranks: int) -> tuple[Join, ...]:
    """The sums that complete the tree across ranks, children before parents.

    A node lives on the rank that owns its first chunk; the root ends on rank 0.
    """
    owners = [rank for rank, share in enumerate(share_chunks(chunks, ranks)) for _ in range(*share)]
    found = []
    for level in range(1, chunks.bit_length()):
        for index in range(chunks >> level):
            parent = Node(level, index)
            if owners[parent.first] != owners[parent.last - 1]:
                left, right = parent.children
                found.append(Join(parent, owners[left.first], owners[right.first]))
    return tuple(found)


def reduce_leaves(leaves: Tensor, first: int) -> Tensor:
    """Sums the chunk sums of one rank up to its largest subtrees.

    Args:
        leaves: (last - first, m), the chunk sums `first` to `last - 1`; left unchanged.
        first: the number of the first of them.

    Returns:
        (K, m), the sums of `find_aligned_nodes(first, last)`; K = 1 if the range is one subtree.
    """
    nodes = find_aligned_nodes(first, first + len(leaves))
    sums = leaves.new_empty(len(nodes), leaves.shape[1])
    for row, node in enumerate(nodes):
        sums[row] = _sum_subtree(leaves[node.first - first : node.last - first])
    return sums


def _sum_subtree(leaves: Tensor) -> Tensor:
    """The sum (m,) of 2^L leaves: neighbours first, then neighbouring pairs, and so on."""
    if len(leaves) == 1:
        return leaves[0]
    pairs = torch.add(leaves[0::2], leaves[1::2])
    stride = 1
    while stride < len(pairs):
        pairs[:: 2 * stride] += pairs[stride :: 2 * stride]
        stride *= 2
    return pairs[0]
