"""The triangular factor of a tall matrix whose rows lie in chunks on several ranks, by a tree.

For the rows A_c (k_c, m) of each chunk c a node of the tree over the chunks has

    A_node = [A_left; A_right],   or instead R (m, m) of A_node = Q R, where A_node has more rows,

so that A = Q R with one R, which is unique up to the signs of its rows, and RᵀR = AᵀA without that
product. Which nodes are factored follows from their numbers of rows alone: the bits are the same on
any number of ranks.

Source: Demmel, Grigori, Hoemmen, Langou, Communication-optimal parallel and sequential QR and LU
factorizations, SIAM J. Sci. Comput. 34 (2012), section 4.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hpctrain.linalg.vectors import one_thread
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import Node, push_node, share_chunks


def compute_triangular_factor(
    rows: Iterable[Tensor], counts: Sequence[int], columns: int, communicator: Communicator
) -> Tensor:
    """Computes R of A = Q R; collective.

    Args:
        rows: A_c (k_c, m) of each of this rank's chunks, which are taken one after the other.
        counts: k_c of all chunks of all ranks, a power of two of them.
        columns: m.
        communicator: the ranks that have the chunks.

    Returns:
        R (min(Σ k_c, m), m) on every rank. It is A itself where A has no more than m rows.
    """
    chunks = len(counts)
    first, last = share_chunks(chunks, communicator.size)[communicator.rank]
    parts = list[tuple[Node, Tensor]]()
    for chunk, own in zip(range(first, last), rows, strict=True):
        push_node(parts, Node(0, chunk), factor_rows(own), merge_factors)
    return communicator.merge_by_tree(
        [part for _, part in parts],
        chunks,
        merge_factors,
        lambda node: _find_shape(node, counts, columns),
    )


def merge_factors(above: Tensor, below: Tensor) -> Tensor:
    """R of rows [above; below]."""
    return factor_rows(torch.cat([above, below]))


def factor_rows(A: Tensor) -> Tensor:
    """R (m, m) of A (k, m), or A itself where k <= m."""
    if len(A) <= A.shape[1]:
        return A
    with one_thread():
        return torch.linalg.qr(A, mode="r").R.contiguous()


def _find_shape(node: Node, counts: Sequence[int], columns: int) -> tuple[int, int]:
    return min(sum(counts[node.first : node.last]), columns), columns
