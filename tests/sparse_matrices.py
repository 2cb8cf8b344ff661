"""Random sparse positive definite matrices, by blocks and dense."""

from itertools import combinations

import torch
from torch import Tensor

from hpctrain.linalg.elimination import Elimination
from hpctrain.parallel.sparse_blocks import SparseBlocks


def make_sparse(
    count: int, cliques: tuple[tuple[int, ...], ...], elimination: Elimination
) -> tuple[list[Tensor], dict[tuple[int, int], Tensor], Tensor]:
    """Pieces of 1 to 4 scattered unknowns, as they are eliminated; the blocks; and A (n, n)."""
    generator = torch.Generator().manual_seed(count)
    sizes = [1 + vertex % 4 for vertex in range(count)]
    of_vertices = torch.randperm(sum(sizes), generator=generator).split(sizes)
    pieces = [of_vertices[vertex] for vertex in elimination.order]
    n = sum(sizes)
    A = torch.zeros(n, n, dtype=torch.float64)
    coupled = {(v, v) for v in range(count)} | {p for c in cliques for p in combinations(c, 2)}
    for v, w in sorted(coupled):
        block = torch.randn(sizes[v], sizes[w], dtype=A.dtype, generator=generator)
        A[of_vertices[v][:, None], of_vertices[w]] = block
        A[of_vertices[w][:, None], of_vertices[v]] = block.T
    A = (A + A.T) / 2
    A += (0.1 - float(torch.linalg.eigvalsh(A)[0])) * torch.eye(n, dtype=A.dtype)
    places = {tuple(sorted((elimination.places[v], elimination.places[w]))) for v, w in coupled}
    blocks = {(i, j): A[pieces[i][:, None], pieces[j]] for j, i in places}
    return pieces, blocks, A


def make_dense(sparse: SparseBlocks) -> Tensor:
    """A (n, n) of the blocks, all of them on one rank."""
    n = sum(len(piece) for piece in sparse.pieces)
    A = torch.zeros(n, n, dtype=torch.float64)
    for (i, j), known in sparse.own.items():
        block = known.tril() + known.tril(-1).mT if i == j else known
        A[sparse.pieces[i][:, None], sparse.pieces[j]] = block
        A[sparse.pieces[j][:, None], sparse.pieces[i]] = block.mT
    return A
