"""The Kuramoto-Sivashinsky equation in its regular régime, solved in Fourier space.

Source: S. Wang, S. Sankaran, P. Perdikaris, Respecting causality for training physics-informed
neural networks, Comput. Methods Appl. Mech. Engrg. 421 (2024) 116813.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import (
    AnyCondition,
    Condition,
    Dirichlet,
    Initial,
    Periodic,
)
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods.etdrk4 import Evolution, Fourier


class KuramotoSivashinsky(Equations):
    """u_t + 5 u u_x + 0.5 u_xx + 0.005 u_xxxx = 0, u(0, x) = −sin πx, periodic in x."""

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    start = Initial({"u": lambda at: -torch.sin(math.pi * at.x)}, exact=True)
    conditions: Sequence[AnyCondition] = (start, Periodic("x"))

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t + 5 * u * u.x + 0.5 * u.xx + 0.005 * u.xxxx

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 2e-9."""
        return solve().at(at.all)


class KuramotoSivashinskyOdd(KuramotoSivashinsky):
    """The same on half of the interval: the solution is odd about x = 0 and, by its period, x = 1.

    So u = u_xx = 0 at both ends, with which the equation has no other solution. What is not odd
    grows 9,000 times until t = 1, what is odd 57 times at most (by t = 0.5): half of the interval
    has the same solution, and nothing in it grows as errors do in the whole.
    """

    geometry = Box(t=(0.0, 1.0), x=(0.0, 1.0))
    conditions = (
        KuramotoSivashinsky.start,
        Dirichlet({"u": 0.0}, on="x", exact=True),
        Condition(lambda at, u: 0.05 * u.xx, on="x"),
    )


@lru_cache(maxsize=4)
def solve(n: int = 128, steps: int = 16_000) -> Evolution:
    """The solution for times up to 1; kept for later calls.

    Args:
        n: nodes in [−1, 1), even.
        steps: of the time.
    """
    fourier = Fourier(n, -1.0, 2.0)
    slope = -2.5j * fourier.kappa * fourier.resolved

    def nonlinear(u: np.ndarray) -> np.ndarray:
        return slope * fourier.transform(fourier.values(u) ** 2)

    start = -np.sin(math.pi * fourier.nodes)
    linear = 0.5 * fourier.kappa**2 - 0.005 * fourier.kappa**4
    return Evolution(fourier, linear, nonlinear, start, 1 / steps, steps)
