"""Sparse Cholesky factors by blocks: orders of elimination, and the numbers of dense factors."""

from itertools import combinations, product

import pytest
import torch
from sparse_matrices import make_sparse

from hpctrain.linalg.elimination import by_least_fill, find_elimination
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.sparse_blocks import SparseBlocks

ALONE = Communicator()


def grid(rows, columns):
    """Cliques of 2 x 2 neighbours."""
    corners = product(range(rows - 1), range(columns - 1))
    return tuple((k := columns * i + j, k + 1, k + columns, k + columns + 1) for i, j in corners)


def ring(count):
    return tuple((k, (k + 1) % count) for k in range(count))


PATTERNS = {
    "grid": (12, grid(3, 4)),
    "ring": (9, ring(9)),
    "row": (6, tuple((k, k + 1) for k in range(5))),
    "star and what is alone": (6, ((0, 3), (1, 3), (2, 3))),
    "dense": (4, ((0, 1, 2, 3),)),
    "random": (
        14,
        tuple((a, b) for a, b in combinations(range(14), 2) if (7 * a + 5 * b) % 6 == 0),
    ),
}
ORDERS = {
    "least fill": by_least_fill,
    "as numbered": lambda c: (c.vertex,),
    "the other way round": lambda c: (-c.vertex,),
    "most fill": lambda c: (-c.fill, c.vertex),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("order", ORDERS)
def test_solutions_are_those_of_the_dense_matrix_in_every_order(pattern, order):
    elimination = find_elimination(*PATTERNS[pattern], ORDERS[order])
    pieces, blocks, A = make_sparse(*PATTERNS[pattern], elimination)
    sparse = SparseBlocks(ALONE, pieces, elimination, blocks, A)
    factor = sparse.factorise(0.5)
    b = torch.linspace(-1, 2, len(A), dtype=A.dtype)
    expected = torch.linalg.solve(A + 0.5 * torch.eye(len(A), dtype=A.dtype), b)
    torch.testing.assert_close(factor.solve(b), expected, rtol=1e-10, atol=1e-12)
    least = float(torch.linalg.eigvalsh(A)[0])
    assert sparse.factorise(-least - 1e-6) is None
    assert sparse.factorise(-least + 1e-6) is not None
    assert torch.equal(sparse.factorise(0.5).solve(b), factor.solve(b))
    assert sparse.find_largest() == float(A.diagonal().max())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_fill_is_that_of_the_dense_factor_in_this_order(pattern, order):
    count, cliques = PATTERNS[pattern]
    found = find_elimination(count, cliques, ORDERS[order])
    assert sorted(found.order) == list(range(count))
    A = 20 * torch.eye(count, dtype=torch.float64)
    for clique in cliques:
        for a, b in combinations([found.places[v] for v in clique], 2):
            A[a, b] = A[b, a] = 1 / (2 + a + b)
    L = torch.linalg.cholesky(A)
    assert set(found.blocks) == {tuple(place) for place in L.nonzero().tolist()}
    for i, columns in enumerate(found.columns):
        assert columns == tuple(L[i, :i].nonzero()[:, 0].tolist())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("order", ORDERS)
def test_columns_wait_for_columns_of_lower_levels_only(pattern, order):
    found = find_elimination(*PATTERNS[pattern], ORDERS[order])
    level_of = {j: number for number, level in enumerate(found.levels) for j in level}
    assert sorted(level_of) == list(range(len(found.order)))
    for j, rows in enumerate(found.rows):
        assert all(level_of[i] > level_of[j] for i in rows)


def test_orders_have_little_fill_and_short_chains():
    """A row has none, and a ring 2 n - 3 blocks below the diagonal, in as good as log₂ n levels."""
    row = find_elimination(40, tuple((k, k + 1) for k in range(39)))
    assert sum(map(len, row.rows)) == 39
    assert len(row.levels) <= 21
    around = find_elimination(64, ring(64))
    assert sum(map(len, around.rows)) == 2 * 64 - 3
    assert len(around.levels) <= 8
    square = find_elimination(64, grid(8, 8))
    given = find_elimination(64, grid(8, 8), ORDERS["as numbered"])
    work, usual = (sum(len(rows) ** 2 for rows in each.rows) for each in (square, given))
    assert work < 0.8 * usual
    assert len(square.levels) < 32


def test_factors_have_equal_bits_with_any_number_of_threads():
    torch.manual_seed(0)
    pieces = list(torch.arange(900).split(300))
    blocks = {(i, i): 600 * torch.eye(300, dtype=torch.float64) for i in range(3)}
    blocks |= {(2, i): torch.randn(300, 300, dtype=torch.float64) for i in range(2)}
    elimination = find_elimination(3, ((0, 1), (1, 2)))
    b, before, found = torch.randn(900, dtype=torch.float64), torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            sparse = SparseBlocks(ALONE, pieces, elimination, blocks, b)
            found.append(sparse.factorise(1.0).solve(b))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
