"""The rates of a reaction and of diffusion, found from the densities of both reactants.

Source: the demonstration of L. Lu, X. Meng, Z. Mao, G. E. Karniadakis, DeepXDE, SIAM Review 63
(2021), 208-228, whose own data are 5e-4 away from the solution.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import Dirichlet, Initial, Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods.collocation import (
    Expansion,
    Reaction,
    grade_panels,
)
from hpctrain.problems.equations.unknowns import Unknown

RATE, DIFFUSION, END = 0.1, 2.0, 10.0
# Of measurements, along t and along x.
GRID = 51
# Of the first panel of time, of all of it: a layer grows at x = 0.
_FIRST_PANEL = 1e-8
# Points a batch: batch × degree doubles, a few of them at a time, stay in the cache.
_BATCH = 2048


@lru_cache(maxsize=4)
def solve(
    degree: int = 160, stages: int = 8, panels: int = 16, sweeps: int = 9
) -> tuple[Expansion, Expansion]:
    """a − (1 − x) and b − (1 − x), by Galerkin's method; kept for later calls.

    The basis is zero at both ends, and (φ_j', φ_k') = δ_jk; see `allen_cahn_periodic.solve`.

    Args:
        degree: of the polynomials.
        stages, panels, sweeps: see `methods.collocation`.
    """
    z, w = legendre.leggauss(degree + 64)
    x, w = (1 + z) / 2, w / 2
    phi = basis(x, degree)
    m, Q = np.linalg.eigh((phi.T * w) @ phi)
    psi, known = phi @ Q, (1 - x)[:, None]
    two = np.eye(2)

    def react(values: np.ndarray) -> np.ndarray:
        a, b = (each + known for each in np.split(values, 2))
        consumed = -RATE * a * b**2
        return np.concatenate([consumed, 2 * consumed])

    problem = Reaction(
        np.kron(two, psi),
        np.kron(two, (psi.T * w) / m[:, None]),
        np.tile(1e-3 * DIFFUSION / m, 2),
        react,
        slope=-2.5 * RATE,
    )
    times = END * grade_panels(panels, _FIRST_PANEL)
    start = np.tile(np.exp(-20 * x) - (1 - x), 2)
    nodes, found = problem.solve(start, times, stages, sweeps)
    coefficients = np.array([[(Q @ part).T for part in np.split(a, 2)] for a in found])

    def phi_at(x: np.ndarray) -> np.ndarray:
        return basis(x, degree)

    a, b = (Expansion(phi_at, times, nodes, coefficients[:, k]) for k in (0, 1))
    return a, b


def basis(x: np.ndarray, degree: int) -> np.ndarray:
    """φ_k (N, degree), k = 1 …, at x (N,); φ_k' = √(2k + 1) L_k(2x − 1)."""
    L = legendre.legvander(2 * x - 1, degree + 1)
    return (L[:, 2:] - L[:, :-2]) / (2 * np.sqrt(2 * np.arange(1, degree + 1) + 1))


def evaluate(t: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Both densities at points (N,)."""
    return {name: 1 - x + each.at(t, x) for name, each in zip("ab", solve(), strict=True)}


def _measure() -> dict[str, np.ndarray]:
    lines = np.linspace(0, END, GRID), np.linspace(0, 1, GRID)
    t, x = (each.ravel() for each in np.meshgrid(*lines, indexing="ij"))
    return {"t": t, "x": x} | evaluate(t, x)


class ReactionInverse(Equations):
    """a_t = 1e-3 d a_xx − k a b², b_t = 1e-3 d b_xx − 2k a b²; true are k = 0.1, d = 2.

    Both are e^{−20x} at first, 1 at x = 0 and 0 at x = 1, and are measured at 51 × 51 points.
    """

    geometry = Box(t=(0.0, END), x=(0.0, 1.0))
    fields = ("a", "b")
    unknowns = {"k": Unknown(0.05, true=RATE), "d": Unknown(1.0, true=DIFFUSION)}

    def __init__(self) -> None:
        self.conditions = (
            Initial(dict.fromkeys("ab", lambda at: torch.exp(-20 * at.x))),
            Dirichlet(dict.fromkeys("ab", lambda at: 1 - at.x)),
            Observations(_measure(), self.fields),
        )

    def residuals(self, at: At, a: Field, b: Field, k: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        consumed = k * a * b**2
        return a.t - 1e-3 * d * a.xx + consumed, b.t - 1e-3 * d * b.xx + 2 * consumed

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`; the error is below 3e-8: next to x = 0, at first."""
        batches = at.all.double().split(_BATCH, dim=1)
        found = [evaluate(*to_array(batch)) for batch in batches]
        return {name: torch.cat([to_tensor(each[name]) for each in found]) for name in self.fields}
