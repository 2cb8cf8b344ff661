"""Tensors of which each belongs to one rank: merged there along the tree, and made known to all."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import Node, merge_nodes

Key = TypeVar("Key", bound=Hashable)
# Tensors begin at multiples of so many numbers: products in BLAS may depend on where in a line of
# the cache they do.
ALIGNED = 16


def share_tensors(
    own: Mapping[Key, Tensor],
    shapes: Mapping[Key, Sequence[int]],
    find_owner: Callable[[Key], int],
    ranks: Communicator,
    like: Tensor,
) -> dict[Key, Tensor]:
    """Makes known to all ranks what each of them has; collective.

    Args:
        own: this rank's tensors.
        shapes: those of all ranks' tensors, the same on all ranks.
        find_owner: which rank has one.
        ranks: all of them.
        like: of the precision and on the device of the tensors.

    Returns:
        All tensors, contiguous.
    """
    if ranks.size == 1:
        return {key: tensor.contiguous() for key, tensor in own.items()}
    keys: list[list[Key]] = [[] for _ in range(ranks.size)]
    for key in shapes:
        keys[find_owner(key)].append(key)
    sizes = [[_align(prod(shapes[key])) for key in each] for each in keys]
    local = like.new_zeros(sum(sizes[ranks.rank]))
    for key, place in zip(keys[ranks.rank], local.split(sizes[ranks.rank]), strict=True):
        place[: own[key].numel()] = own[key].reshape(-1)
    everything = ranks.allgather_rows(local, [sum(each) for each in sizes])
    places = everything.split([size for each in sizes for size in each])
    every_key = (key for each in keys for key in each)
    return {
        key: place[: prod(shapes[key])].view(*shapes[key])
        for key, place in zip(every_key, places, strict=True)
    }


def _align(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED


def find_piece_owner(piece: int, ranks: int) -> int:
    """The rank that computes a piece of a vector."""
    return piece % ranks


def join_pieces(parts: Mapping[int, Tensor], pieces: Sequence[Tensor], like: Tensor) -> Tensor:
    """The vector (n,), like another one, of its pieces by their numbers.

    Args:
        pieces: the entries of each piece among the n, which are all of them.
    """
    found = torch.empty_like(like)
    found[torch.cat(list(pieces))] = torch.cat([parts[i] for i in range(len(pieces))])
    return found


def merge_at_owners(
    parts: Mapping[tuple[Key, Node], Tensor],
    find_owner: Callable[[Key], int],
    merge: Callable[[Tensor, Tensor], Tensor],
    ranks: Communicator,
    like: Tensor,
) -> dict[Key, Tensor]:
    """Merges several trees' nodes, each tree's on the rank that is to have its root; collective.

    A tree need not have all nodes: what no rank has is left out.

    Args:
        parts: by tree, the nodes of this rank's chunks.
        find_owner: which rank is to have a tree's root.
        merge: makes a node's tensor of those of its left and its right child.
        ranks: those that have the others.
        like: of the precision and on the device of the tensors.

    Returns:
        The roots of this rank's trees, with equal bits for any number of ranks. One of which there
        was one node only may be in the memory of that.
    """
    found: dict[Key, dict[Node, Tensor]] = defaultdict(dict)
    for (key, node), tensor in _send_to_owners(parts, find_owner, ranks, like).items():
        found[key][node] = tensor
    return {key: merge_nodes(nodes, merge) for key, nodes in found.items()}


def _send_to_owners(
    parts: Mapping[tuple[Key, Node], Tensor],
    find_owner: Callable[[Key], int],
    ranks: Communicator,
    like: Tensor,
) -> dict[tuple[Key, Node], Tensor]:
    """Those parts of all ranks whose trees this rank is to have the roots of."""
    if ranks.size == 1:
        return dict(parts)
    sent: list[list[Tensor]] = [[like.new_empty(0)] for _ in range(ranks.size)]
    for (key, _), part in parts.items():
        sent[find_owner(key)].append(part.reshape(-1))
    names = [(key, (node.level, node.index), tuple(p.shape)) for (key, node), p in parts.items()]
    coming = [
        [name for name in of_rank if find_owner(name[0]) == ranks.rank]
        for of_rank in ranks.allgather(names)
    ]
    sizes = [[prod(shape) for *_, shape in each] for each in coming]
    received = ranks.exchange_all(
        [torch.cat(each) for each in sent], [[sum(each)] for each in sizes]
    )
    found = dict[tuple[Key, Node], Tensor]()
    for each, counts, numbers in zip(coming, sizes, received, strict=True):
        for (key, place, shape), flat in zip(each, numbers.split(counts), strict=True):
            found[key, Node(*place)] = flat.view(*shape)
    return found
