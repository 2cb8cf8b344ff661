"""Where the next points of an equation are, by the squares of its residuals.

RAD draws N of M candidates without replacement, with a density

    p(x) ∝ |r(x)|^k / mean |r|^k + c,   |r|² = Σ_i r_i²;

R3 retains the points whose |r| exceeds the mean, and replaces the others by evenly distributed
ones. Candidates are those of a quasi-random set that is shifted anew in each renewal. Points at
which a residual is not finite are never taken.

Sources: RAD, Wu, Zhu, Tan, Kartha, Lu, CMAME 403 (2023) 115671, arXiv 2207.10289; R3, Daw, Bu,
Wang, Perdikaris, Karpatne, ICML 2023, arXiv 2207.02338, without its causal gate; the shift, Cranley
and Patterson, SIAM Journal on Numerical Analysis 13 (1976).
"""

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.equations.geometry.base import Geometry
from hpctrain.problems.equations.geometry.sampling import Transform, place_interior_points

# Least density of a candidate beside the others: the logarithm of a key stays finite.
LEAST_DENSITY = 1e-280


def draw_candidates(
    region: Geometry, count: int, move: Transform, seed: int, iteration: int
) -> Tensor:
    """Points (d, M) inside, other ones in each iteration.

    Args:
        move: takes evenly distributed points of the bounding box, gives denser ones.
    """
    shift = to_tensor(make_generator(seed, "candidates", iteration).random((len(region.bounds), 1)))
    low, high = torch.tensor(region.bounds, dtype=torch.float64, device="cpu").T[..., None]

    def shift_and_move(points: Tensor) -> Tensor:
        u = ((points - low) / (high - low) + shift) % 1.0
        return move(low + (high - low) * u)

    return place_interior_points(region, count, shift_and_move)


def draw_by_residual(
    squares: np.ndarray, count: int, power: float, offset: float, seed: int, iteration: int
) -> np.ndarray:
    """RAD: the numbers (N,) of candidates, ascending; fewer where fewer residuals are finite.

    A candidate of density p gets the key log(u) / p, u uniform, and the N greatest keys are drawn:
    the same as one draw after another (Efraimidis, Spirakis, Information Processing Letters 97).

    Args:
        squares: |r|² (M,) at the candidates.
        count: N.
        power, offset: k and c.
    """
    density = _find_density(squares, power, offset)
    u = make_generator(seed, "rad", iteration).random(len(density))
    finite = np.flatnonzero(density > 0)
    keys = np.log1p(-u[finite]) / density[finite]
    chosen = finite[np.argsort(-keys, kind="stable")[:count]]
    return np.sort(chosen)


def _find_density(squares: np.ndarray, power: float, offset: float) -> np.ndarray:
    """p (M,), not normalised; 0 where a residual is not finite."""
    finite = np.isfinite(squares)
    largest = squares[finite].max(initial=0.0)
    if largest == 0:
        return finite.astype(np.float64)
    p = np.zeros(len(squares))
    p[finite] = np.sqrt(squares[finite] / largest) ** power
    density = p / p[finite].mean() + offset
    return np.where(finite, np.maximum(density, LEAST_DENSITY), 0.0)


def find_retained(squares: np.ndarray) -> np.ndarray:
    """R3: which points stay (N,): those whose |r| exceeds the mean of all that are finite."""
    r = np.sqrt(squares)
    finite = np.isfinite(r)
    return finite & (r > (r[finite].mean() if finite.any() else np.inf))
