"""Assigns S blocks of the problem to P ranks, for any S and P.

With P ≤ S each rank has whole blocks, and works on one after the other. With P > S each block has
several ranks, which divide its samples among them. Where ranks cannot divide samples anew, all of
them work on every block. The assignment never changes what is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpctrain.parallel.communicator import Communicator


@dataclass(frozen=True)
class BlockMap:
    """Which ranks work on which blocks.

    Attributes:
        groups: the ranks of each block in ascending order. The first one owns the block's state.
        blocks: the blocks of each rank, in the order in which it works on them.
    """

    groups: tuple[tuple[int, ...], ...]
    blocks: tuple[tuple[int, ...], ...]


def assign_blocks(weights: Sequence[float], ranks: int) -> BlockMap:
    """Assigns blocks to ranks, so that all ranks have about the same work.

    Args:
        weights: the work in each block, in any unit, finite and not negative.
        ranks: the number of ranks.
    """
    if not weights or not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ValueError(f"block weights must be finite and not negative, not {list(weights)}")
    if ranks < 1:
        raise ValueError(f"blocks need at least one rank, not {ranks}")
    if ranks <= len(weights):
        return _assign_whole_blocks(weights, ranks)
    return _assign_rank_groups(weights, ranks)


def share_blocks(blocks: int, ranks: int) -> BlockMap:
    """Lets all ranks work on all blocks, one after the other."""
    return BlockMap((tuple(range(ranks)),) * blocks, (tuple(range(blocks)),) * ranks)


def make_block_communicator(communicator: Communicator, block_map: BlockMap) -> Communicator:
    """Makes the communicator of the ranks that work on this rank's block; collective.

    Where each rank has whole blocks it is alone in it, and no MPI call is made.
    """
    if all(len(group) == 1 for group in block_map.groups):
        return Communicator(None, communicator.timer, communicator.traffic)
    (block,) = block_map.blocks[communicator.rank]
    return communicator.split(block)


def _assign_whole_blocks(weights: Sequence[float], ranks: int) -> BlockMap:
    """For P ≤ S: gives out the heaviest block first, to the rank with least work (Graham, 1969)."""
    load = [(0.0, 0, rank) for rank in range(ranks)]
    owner = [0] * len(weights)
    for block in sorted(range(len(weights)), key=lambda block: (-weights[block], block)):
        work, count, rank = min(load)
        owner[block] = rank
        load[rank] = (work + weights[block], count + 1, rank)
    return BlockMap(
        groups=tuple((rank,) for rank in owner),
        blocks=tuple(
            tuple(block for block, its in enumerate(owner) if its == rank) for rank in range(ranks)
        ),
    )


def _assign_rank_groups(weights: Sequence[float], ranks: int) -> BlockMap:
    """For P > S: gives each block a rank, and each further one where a rank has most work."""
    sizes = [1] * len(weights)
    for _ in range(ranks - len(weights)):
        block = min(range(len(weights)), key=lambda b: (-weights[b] / sizes[b], sizes[b], b))
        sizes[block] += 1
    firsts = [sum(sizes[:block]) for block in range(len(sizes))]
    return BlockMap(
        groups=tuple(
            tuple(range(first, first + size)) for first, size in zip(firsts, sizes, strict=True)
        ),
        blocks=tuple((block,) for block, size in enumerate(sizes) for _ in range(size)),
    )
