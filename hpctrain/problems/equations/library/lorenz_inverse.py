"""The three rates of Lorenz' system, found from values at 25 times.

Source: E. N. Lorenz, J. Atmos. Sci. 20 (1963), 130-141; the data are like those of L. Lu, X. Meng,
Z. Mao, G. E. Karniadakis, DeepXDE, SIAM Review 63 (2021), 208-228, whose own values are 5e-4 away
from the solution.
"""

from functools import lru_cache

import numpy as np
from torch import Tensor

from hpctrain.problems.equations.conditions import Initial, Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Interval
from hpctrain.problems.equations.library.methods import taylor
from hpctrain.problems.equations.library.methods.taylor import TaylorSolution
from hpctrain.problems.equations.unknowns import Unknown

START = (-8.0, 7.0, 27.0)
RATES = (10.0, 15.0, 8 / 3)
_TIMES = 3 * np.linspace(0, 1, 26)[1:]


@lru_cache(maxsize=2)
def solve(steps: int = 150) -> TaylorSolution:
    """The solution up to t = 3; kept for later calls."""
    sigma, rho, beta = RATES
    A = np.array([[-sigma, sigma, 0], [rho, -1, 0], [0, 0, -beta]])
    B = np.zeros((3, 3, 3))
    B[1, 0, 2], B[2, 0, 1] = -1, 1
    return taylor.solve(A, B, np.array(START), 3.0, steps)


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
        Observations({"t": _TIMES} | dict(zip(fields, solve().at(_TIMES).T, strict=True)), fields),
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
        return solve().evaluate_fields(self.fields, at.t)
