"""Prey and predators, whose numbers go round four times.

Source: the demonstration of L. Lu, X. Meng, Z. Mao, G. E. Karniadakis, DeepXDE, SIAM Review 63
(2021), 208-228, whose own solution is 7e-2 away from this one.
"""

from functools import lru_cache

import numpy as np
from torch import Tensor

from hpctrain.problems.equations.conditions import Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Interval
from hpctrain.problems.equations.library.methods import taylor
from hpctrain.problems.equations.library.methods.taylor import TaylorSolution

START = (0.5, 0.075)
SPEED = 20.0


@lru_cache(maxsize=2)
def solve(steps: int = 200) -> TaylorSolution:
    """The solution up to t = 1; kept for later calls."""
    A = SPEED * np.array([[2.0, 0.0], [0.0, -1.06]])
    B = np.zeros((2, 2, 2))
    B[0, 0, 1], B[1, 0, 1] = -8 * SPEED, 4 * SPEED
    return taylor.solve(A, B, np.array(START), 1.0, steps)


class LotkaVolterra(Equations):
    """r' = 20 (2r − 8rp), p' = 20 (4rp − 1.06p), r(0) = 0.5, p(0) = 0.075."""

    geometry = Interval(t=(0.0, 1.0))
    fields = ("r", "p")
    conditions = (Initial(dict(zip(fields, START, strict=True)), exact=True),)

    def residuals(self, at: At, r: Field, p: Field) -> tuple[Tensor, Tensor]:
        return r.t / SPEED - 2 * r + 8 * r * p, p.t / SPEED - 4 * r * p + 1.06 * p

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`; the error is below 1e-13."""
        return solve().evaluate_fields(self.fields, at.t)
