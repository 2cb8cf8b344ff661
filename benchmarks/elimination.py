"""Orders of elimination of the subdomains' blocks, compared: `python -m benchmarks.elimination`.

For each job the blocks of the Cholesky factor, multiply-adds, levels of the elimination tree, and
what ranks gain of a factorisation without messages: of each level the slowest rank counts, with the
owners of `parallel.sparse_blocks`. Nested dissection cuts the grid of subdomains by lines.
"""

import tomllib
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import cast

from benchmarks.tables import write_markdown
from hpctrain.linalg.elimination import Candidate, Elimination, by_least_fill, find_elimination
from hpctrain.objective.coupling import Coupling
from hpctrain.parallel.owners import find_piece_owner
from hpctrain.parallel.sparse_blocks import find_owners
from hpctrain.problems.equations.subdomains import count_cells
from hpctrain.run.pieces import make_objective, make_problem

JOBS = (
    "jobs/library/kdv-subdomains.toml",
    "jobs/laplace-holes-subdomains.toml",
    "jobs/library/burgers-subdomains.toml",
    "jobs/library/diffusion-transport-subdomains.toml",
)
RANKS = (2, 4, 16, 49)
# Multiply-adds of a block's factor, of a triangular system and of a product, in units of p³.
FACTOR, DIVISION, PRODUCT = 1 / 6, 1 / 2, 1.0


def count_seconds(
    elimination: Elimination,
    ranks: int,
    factor: float = FACTOR,
    division: float = DIVISION,
    product: float = PRODUCT,
) -> float:
    """The slowest rank's cost of a factorisation, level by level, for the costs of operations."""
    owners, total = find_owners(elimination, ranks), 0.0
    for level in elimination.levels:
        costs = [[0.0] * ranks for _ in range(3)]
        for j in level:
            rows = elimination.rows[j]
            costs[0][owners[j, j]] += factor
            for i in rows:
                costs[1][owners[i, j]] += division
                for k in (k for k in rows if k <= i):
                    costs[2][owners[i, k]] += product
        total += sum(map(max, costs))
    return total


def count_products(elimination: Elimination, ranks: int) -> int:
    """The slowest rank's products of a block with a vector in a solution, level by level."""
    total = 0
    for level in elimination.levels:
        for changed in (elimination.rows, elimination.columns):
            counts = [0] * ranks
            for j in level:
                for i in (j, *changed[j]):
                    counts[find_piece_owner(i, ranks)] += 1
            total += max(counts)
    return total


def dissect(cells: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Nested dissection: both sides of the middle line across the longest side, then that line.

    Source: A. George, Nested dissection of a regular finite element mesh, SIAM J. Numer. Anal. 10
    (1973).
    """
    if not cells:
        return []
    lengths = [len({cell[axis] for cell in cells}) for axis in range(len(cells[0]))]
    axis = lengths.index(max(lengths))
    if lengths[axis] < 3:
        return list(cells)
    places = sorted({cell[axis] for cell in cells})
    middle = places[len(places) // 2]
    before, after = ([c for c in cells if (c[axis] - middle) * s < 0] for s in (1, -1))
    return [*dissect(before), *dissect(after), *(c for c in cells if c[axis] == middle)]


def list_orders(cuts: Sequence[int]) -> dict[str, Callable[[Candidate], tuple[int, ...]]]:
    """What is preferred, by name."""
    grid = list(product(*map(range, cuts)))
    ranked = {grid.index(cell): place for place, cell in enumerate(dissect(grid))}
    return {
        "as numbered": lambda c: (c.vertex,),
        "least degree": lambda c: (c.degree, c.vertex),
        "nested dissection": lambda c: (ranked[c.vertex],),
        "least fill": lambda c: (c.fill, c.vertex),
        "least fill, then lowest (used)": by_least_fill,
    }


def main() -> None:
    table = []
    for path in JOBS:
        job = tomllib.loads(Path(path).read_text())
        objective = make_objective(make_problem(job), threads=1)
        coupling = cast(Coupling, objective.residuals.coupling)
        pattern = tuple(tuple(coupling.list_pieces(cell)) for cell in coupling.cells)
        cuts = [count_cells(cut) for cut in job["network"]["subdomains"].values()]
        count, size = len(coupling.all_pieces), len(coupling.all_pieces[0])
        for name, prefer in list_orders(cuts).items():
            found = find_elimination(count, pattern, prefer)
            work = count_seconds(found, 1)
            gains = [f"{work / count_seconds(found, ranks):.1f}" for ranks in RANKS]
            cost = f"{work * size**3 / 1e9:.2f}"
            sizes = [str(len(found.blocks)), cost, str(len(found.levels))]
            label = f"{Path(path).stem}, {count} x {size}"
            table.append([label, name, *sizes, *gains])
    head = ["job, pieces", "order", "blocks of L", "10⁹ multiply-adds", "levels"]
    print(write_markdown([*head, *(f"{ranks} ranks" for ranks in RANKS)], table))


if __name__ == "__main__":
    main()
