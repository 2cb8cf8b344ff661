"""JᵀJ in blocks of pieces, divided among ranks, of its sums over the samples of single cells.

A cell's samples are on few ranks. Each block (i, j) of a cell goes to the rank that is to have the
block (i, j) of JᵀJ, which adds up the chunks along their tree, and then the cells in their order.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from hpctrain.objective.coupling import Coupling
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.owners import merge_at_owners
from hpctrain.parallel.sparse_blocks import Block, SparseBlocks, find_owners
from hpctrain.parallel.tree import Node


def assemble_blocks(
    coupling: Coupling,
    grams: Mapping[tuple[int, Node], Tensor],
    scale: float,
    ranks: Communicator,
    like: Tensor,
) -> SparseBlocks:
    """Computes JᵀJ times a number; collective.

    Args:
        coupling: the pieces and the cells.
        grams: of cells, by their numbers, over this rank's subtrees of chunks, as
            `losses.CellRows.sum_grams` gives them.
        scale: the number.
        ranks: which have the others.
        like: of the precision, and on the device, that is wanted.
    """
    parts = {
        ((cell, *block), node): part
        for (cell, node), G in grams.items()
        for block, part in coupling.split_gram(cell, G).items()
    }
    owners = find_owners(coupling.elimination, ranks.size)
    sums = merge_at_owners(parts, lambda key: owners[key[1:]], torch.add, ranks, like)
    own = dict[Block, Tensor]()
    for cell, i, j in sorted(sums):
        known, more = own.get((i, j)), sums[cell, i, j]
        own[i, j] = more if known is None else known + more
    own = {block: scale * A for block, A in own.items()}
    return SparseBlocks(ranks, coupling.eliminated, coupling.elimination, own, like)
