"""Maps S blocks of the problem onto P ranks, for any S and P.

With P <= S every rank works on whole blocks, one after the other; with P > S every block has a
group of ranks, which share its samples. Which ranks those are never changes what is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpctrain.parallel.communicator import Communicator


@dataclass(frozen=True)
class BlockMap:
    """Who works on what.

    Attributes:
        groups: for each block its ranks, ascending; the first owns the block's state.
        blocks: for each rank its blocks, in the order it works on them.
    """

    groups: tuple[tuple[int, ...], ...]
    blocks: tuple[tuple[int, ...], ...]


def assign_blocks(weights: Sequence[float], ranks: int) -> BlockMap:
    """Gives every block its ranks and every rank its blocks, balanced by weight.

    Args:
        weights: the work in each block, in any unit; finite and not negative.
        ranks: the number of ranks.
    """
    if not weights or not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ValueError(f"block weights must be finite and not negative, not {list(weights)}")
    if ranks < 1:
        raise ValueError(f"blocks need at least one rank, not {ranks}")
    if ranks <= len(weights):
        return _assign_whole_blocks(weights, ranks)
    return _assign_rank_groups(weights, ranks)


def make_block_communicator(communicator: Communicator, block_map: BlockMap) -> Communicator:
    """The ranks that share this rank's block; collective over all ranks.

    Where every rank works on whole blocks it is alone, and no MPI call is made.
    """
    if all(len(group) == 1 for group in block_map.groups):
        return Communicator(None, communicator.timer, communicator.traffic)
    (block,) = block_map.blocks[communicator.rank]
    return communicator.split(block)


def _assign_whole_blocks(weights: Sequence[float], ranks: int) -> BlockMap:
    """P <= S: heaviest block first, each to the rank with the least load (Graham, 1969)."""
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
    """P > S: one rank each, then every further rank to the block with the most work per rank."""
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
