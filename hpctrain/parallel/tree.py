"""Sums over samples along a fixed binary tree, with the same bits on any number of ranks.

The samples are cut into C chunks, C a power of two. The sums over chunks are the leaves of a
complete binary tree, and every other node is the sum of its two children, whoever adds them. A rank
holds consecutive chunks. It first sums the largest subtrees of its own (`reduce_leaves`). The sums
that are left, of children on different ranks, are listed by `list_joins`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Node:
    """A node of the tree, over the leaves index·2^level … (index + 1)·2^level - 1.

    A leaf has level 0.
    """

    level: int
    index: int

    @property
    def first(self) -> int:
        """The first leaf below the node."""
        return self.index << self.level

    @property
    def last(self) -> int:
        """One past the last leaf below the node."""
        return (self.index + 1) << self.level

    @property
    def parent(self) -> "Node":
        """The node of which this is a child."""
        return Node(self.level + 1, self.index // 2)

    @property
    def children(self) -> tuple["Node", "Node"]:
        """The left and the right child."""
        return Node(self.level - 1, 2 * self.index), Node(self.level - 1, 2 * self.index + 1)


class Join(NamedTuple):
    """A sum of two nodes on different ranks. It is stored on the rank that has the left child.

    Attributes:
        parent: the node that is their sum.
        home: the rank that has the left child, and then the sum.
        source: the rank that has the right child.
    """

    parent: Node
    home: int
    source: int


@cache
def share_chunks(chunks: int, ranks: int) -> tuple[tuple[int, int], ...]:
    """Divides chunks among ranks: a range (first, last) for each, last excluded.

    The ranges differ by one chunk at most. If `ranks` is a power of two each is one subtree.

    Raises:
        ValueError: `chunks` is no power of two, or there are more ranks than chunks.
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
    """Lists the largest subtrees that make up the leaves first … last - 1, from left to right."""
    nodes = []
    while first < last:
        level = (last - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        nodes.append(Node(level, first >> level))
        first += 1 << level
    return tuple(nodes)


def list_nodes_up_to(level: int, first: int, last: int) -> list[Node]:
    """Lists the largest subtrees, up to a level, that make up the leaves first … last - 1."""
    nodes = list(find_aligned_nodes(first, last))
    while any(node.level > level for node in nodes):
        nodes = [n for node in nodes for n in (node.children if node.level > level else (node,))]
    return nodes


def push_node(
    sums: list[tuple[Node, Tensor]],
    node: Node,
    value: Tensor,
    merge: Callable[[Tensor, Tensor], Tensor] = Tensor.add_,
) -> None:
    """Appends a node's sum to those of the nodes left of it, and adds up siblings.

    So that sums of large tensors follow the tree with few of them in memory.

    Args:
        sums: nodes and their sums, from left to right; it is changed.
        node: the next node.
        value: its sum, whose memory may be overwritten.
        merge: makes a node's value of those of its left and its right child; by default their sum.
    """
    while (left := pop_left_sibling(sums, node)) is not None:
        value, node = merge(left, value), node.parent
    sums.append((node, value))


def pop_left_sibling(sums: list[tuple[Node, Tensor]], node: Node) -> Tensor | None:
    """Removes and returns the sum of a node's left sibling, if that was pushed last; else None."""
    if sums and node.index % 2 == 1 and sums[-1][0] == Node(node.level, node.index - 1):
        return sums.pop()[1]
    return None


def merge_nodes(values: dict[Node, Tensor], merge: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Merges disjoint subtrees, at least one, up to the node above all of them.

    What is missing between them is left out: a node of which one child is there has that one's.

    Args:
        values: by the subtrees' roots.
        merge: makes a node's value of those of its left and its right child.
    """
    level = 0
    while len(values) > 1:
        above = {node: value for node, value in values.items() if node.level > level}
        for node in sorted((node for node in values if node.level == level), key=lambda n: n.index):
            left = above.get(node.parent)
            above[node.parent] = values[node] if left is None else merge(left, values[node])
        values, level = above, level + 1
    (root,) = values.values()
    return root


def add_to_nodes(
    level: int,
    first: int,
    last: int,
    make_zero: Callable[[], Tensor],
    add: Callable[[Node, Tensor], None],
) -> list[Tensor]:
    """Sums large tensors up to one rank's largest subtrees, with few of them in memory.

    Where two nodes are siblings, the right one is added into the memory of the left one as it is
    computed.

    Args:
        level: of the nodes that are computed at once, at most.
        first, last: the rank's leaves are first … last - 1.
        make_zero: makes the memory of a sum.
        add: adds the sum over a node's leaves to the second argument.

    Returns:
        The sums of `find_aligned_nodes(first, last)`.
    """
    sums = list[tuple[Node, Tensor]]()
    for node in list_nodes_up_to(level, first, last):
        total = pop_left_sibling(sums, node)
        parent = node if total is None else node.parent
        total = make_zero() if total is None else total
        add(node, total)
        push_node(sums, parent, total)
    return [total for _, total in sums]


@cache
def list_joins(chunks: int, ranks: int) -> tuple[Join, ...]:
    """Lists the sums that complete the tree across ranks, children before parents.

    A node lies on the rank that has its first chunk, so that the root ends on rank 0.
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
    """Sums the chunks of one rank up to its largest subtrees.

    Args:
        leaves: (last - first, m), the sums over the chunks first … last - 1; they stay unchanged.
        first: the number of the first chunk.

    Returns:
        (K, m), the sums of `find_aligned_nodes(first, last)`. K = 1 if the range is one subtree.
    """
    nodes = find_aligned_nodes(first, first + len(leaves))
    sums = leaves.new_empty(len(nodes), leaves.shape[1])
    for row, node in enumerate(nodes):
        sums[row] = _sum_subtree(leaves[node.first - first : node.last - first])
    return sums


def _sum_subtree(leaves: Tensor) -> Tensor:
    """Adds 2^L leaves to (m,): neighbours first, then neighbouring pairs, and so on."""
    if len(leaves) == 1:
        return leaves[0]
    pairs = torch.add(leaves[0::2], leaves[1::2])
    stride = 1
    while stride < len(pairs):
        pairs[:: 2 * stride] += pairs[stride :: 2 * stride]
        stride *= 2
    return pairs[0]
