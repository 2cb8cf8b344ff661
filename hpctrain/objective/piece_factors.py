"""Triangular factors of the columns of J by the parameters of single pieces."""

import torch
from torch import Tensor

from hpctrain.objective.coupling import Coupling
from hpctrain.objective.losses import CellRows
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.triangular_factor import compute_triangular_factor


def factorise_pieces(
    coupling: Coupling, rows: CellRows, ranks: Communicator, like: Tensor
) -> list[Tensor]:
    """Computes R_i of the columns J_i = Q_i R_i of each piece, by a merge over the ranks for each.

    Args:
        coupling: the pieces.
        rows: of all chunks of this rank.
        ranks: which have the others.
        like: of the precision, and on the device, that is wanted.

    Returns:
        R_i (k, p) on every rank, k = min(p, rows that depend on the piece).
    """
    found = [rows.list_columns(i) for i in range(len(coupling.all_pieces))]
    own = [[sum(map(len, chunk)) for chunk in chunks] for chunks in found]
    by_rank = ranks.allgather(own)
    factors = []
    for i, (piece, chunks) in enumerate(zip(coupling.all_pieces, found, strict=True)):
        width, counts = len(piece), [count for each in by_rank for count in each[i]]
        none = like.new_empty(0, width)
        joined = (torch.cat([none, *chunk]) for chunk in chunks)
        factors.append(compute_triangular_factor(joined, counts, width, ranks))
    return factors
