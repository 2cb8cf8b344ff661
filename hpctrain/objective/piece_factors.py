"""Triangular factors of the columns of J by the parameters of single pieces.

The rows of a piece are on few ranks. Each factors its own, and one rank merges them.
"""

import torch
from torch import Tensor

from hpctrain.objective.coupling import Coupling
from hpctrain.objective.losses import CellRows
from hpctrain.parallel.block_scaling import BlockScaling, regularise
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.owners import find_piece_owner, merge_at_owners, share_tensors
from hpctrain.parallel.tree import Node, find_aligned_nodes, merge_nodes
from hpctrain.parallel.triangular_factor import factor_rows, merge_factors


def factorise_pieces(
    coupling: Coupling,
    rows: CellRows,
    held: tuple[int, int],
    scale: float,
    cutoff: float,
    ranks: Communicator,
    like: Tensor,
) -> BlockScaling:
    """Computes R_i of the columns J_i = Q_i R_i of each piece, times a number; collective.

    Args:
        coupling: the pieces.
        rows: of all chunks of this rank.
        held: the first of these chunks, and the one after the last.
        scale: the number.
        cutoff: c of `parallel.block_scaling`.
        ranks: which have the others.
        like: of the precision, and on the device, that is wanted.
    """
    pieces = coupling.all_pieces

    def find_owner(piece: int) -> int:
        return find_piece_owner(piece, ranks.size)

    parts = dict[tuple[int, Node], Tensor]()
    for i in range(len(pieces)):
        chunks = rows.list_columns(i)
        leaves = {
            Node(0, chunk): factor_rows(torch.cat(found))
            for chunk, found in zip(range(*held), chunks, strict=True)
            if found
        }
        for node in find_aligned_nodes(*held):
            below = {leaf: R for leaf, R in leaves.items() if node.first <= leaf.index < node.last}
            if below:
                parts[i, node] = merge_nodes(below, merge_factors)
    merged = merge_at_owners(parts, find_owner, merge_factors, ranks, like)
    shapes = {i: (len(piece), len(piece)) for i, piece in enumerate(pieces)}
    own = {
        i: scale * regularise(merged.get(i, like.new_empty(0, shapes[i][1])), cutoff)
        for i in shapes
        if find_owner(i) == ranks.rank
    }
    factors = share_tensors(own, shapes, find_owner, ranks, like)
    return BlockScaling(ranks, pieces, [factors[i] for i in range(len(pieces))])
