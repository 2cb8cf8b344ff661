"""The three rates of Lorenz' system, found from values at 25 times.

Source: E. N. Lorenz, J. Atmos. Sci. 20 (1963), 130-141; the data are like those of L. Lu, X. Meng,
Z. Mao, G. E. Karniadakis, DeepXDE, SIAM Review 63 (2021), 208-228, whose own values are 5e-4 away
from the solution.
"""

from functools import lru_cache

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.conditions import Initial, Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Interval
from hpctrain.problems.equations.unknowns import Unknown

START = (-8.0, 7.0, 27.0)
RATES = (10.0, 15.0, 8 / 3)
_TIMES = 3 * np.linspace(0, 1, 26)[1:]


@lru_cache(maxsize=2)
def solve(step: float = 0.02, degree: int = 24) -> np.ndarray:
    """Coefficients (steps, degree + 1, 3) of a Taylor series on each step up to t = 3.

    Those of degree k + 1 follow from the equations by the Cauchy products of the lower ones.
    """
    sigma, rho, beta = RATES
    start, panels = np.array(START), []
    for _ in range(round(3 / step)):
        c = np.zeros((degree + 1, 3))
        c[0] = start
        for k in range(degree):
            x, y, z = c[k]
            xy, xz = (sum(c[j, 0] * c[k - j, i] for j in range(k + 1)) for i in (1, 2))
            c[k + 1] = np.array([sigma * (y - x), rho * x - xz - y, xy - beta * z]) / (k + 1)
        panels.append(c)
        start = _sum(c[None], np.array([step]))[0]
    return np.stack(panels)


def evaluate(t: np.ndarray, step: float = 0.02) -> np.ndarray:
    """The solution (N, 3) at times t (N,)."""
    panels = solve(step)
    k = np.minimum((t / step).astype(int), len(panels) - 1)
    return _sum(panels[k], t - k * step)


def _sum(c: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Σ_k c_k s^k (N, 3) of coefficients (N, degree + 1, 3) at s (N,), by Horner's rule."""
    total = np.zeros_like(c[:, 0])
    for k in reversed(range(c.shape[1])):
        total = total * s[:, None] + c[:, k]
    return total


class LorenzInverse(Equations):
    """x' = σ (y − x), y' = x (ρ − z) − y, z' = xy − βz; true are σ = 10, ρ = 15, β = 8/3.

    The start (−8, 7, 27) is known, and all three at 25 later times.
    """

    geometry = Interval(t=(0.0, 3.0))
    fields = ("x", "y", "z")
    unknowns = {
        "sigma": Unknown(1.0, true=10.0),
        "rho": Unknown(1.0, true=15.0),
        "beta": Unknown(1.0, true=8 / 3),
    }
    conditions = (
        Initial(dict(zip(fields, START, strict=True)), exact=True),
        Observations({"t": _TIMES} | dict(zip(fields, evaluate(_TIMES).T, strict=True)), fields),
    )

    def residuals(
        self, at: At, x: Field, y: Field, z: Field, sigma: Tensor, rho: Tensor, beta: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return (
            x.t - sigma * (y - x),
            y.t - x * (rho - z) + y,
            z.t - x * y + beta * z,
        )

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`; the error is below 1e-12."""
        values = evaluate(to_array(at.t.double()))
        return {name: to_tensor(values[:, i].copy()) for i, name in enumerate(self.fields)}
