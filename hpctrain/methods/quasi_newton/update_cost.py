"""What an update of a quasi-Newton memory costs, in one unit for secant pairs and for matrices.

An update goes through the numbers of a memory: 2 m n_s for m pairs of n_s parameters each, n_s² for
a dense matrix. A matrix that is held as factors of its updates has fewer numbers at first, and is
counted as what it becomes. The unit are 6 n numbers: an update of three pairs of all n parameters,
with which the published costs of SPQN are counted.
"""

PAIRS = 3


def count_pairs(pairs: int, fraction: float = 1.0) -> float:
    """The cost of an update of `pairs` secant pairs of a part of all parameters."""
    return pairs / PAIRS * fraction


def count_matrix(size: int, parameters: int, updates: int | None = None) -> float:
    """The cost of an update of a matrix (n_s, n_s).

    Args:
        size: n_s.
        parameters: n, of which the unit is made.
        updates: at most so many are kept, as two columns each; None for all.
    """
    columns = size if updates is None else min(size, 2 * updates)
    return columns * size / (2 * PAIRS * parameters)
