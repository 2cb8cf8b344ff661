"""The Korteweg-de Vries equation, whose cosine breaks up into solitons; solved in Fourier space.

Source: N. J. Zabusky, M. D. Kruskal, Phys. Rev. Lett. 15 (1965), 240-243.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Initial, Periodic
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods.etdrk4 import Evolution, Fourier


class KortewegDeVries(Equations):
    """u_t + u u_x + 0.022² u_xxx = 0, u(0, x) = cos πx, periodic in x.

    The network takes six harmonics: for the narrow solitons one is few.
    """

    name = "kdv"
    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    dispersion = 0.022**2
    conditions = (
        Initial({"u": lambda at: torch.cos(math.pi * at.x)}, exact=True),
        Periodic("x", harmonics=6),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t + u * u.x + self.dispersion * u.xxx

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 2e-11, relative to ‖u‖ 3e-12."""
        return solve(self.dispersion).at(at.all)


@lru_cache(maxsize=4)
def solve(dispersion: float, n: int = 512, steps: int = 32_000) -> Evolution:
    """The solution for times up to 1; kept for later calls.

    Args:
        n: nodes in [−1, 1), even.
        steps: of the time.
    """
    fourier = Fourier(n, -1.0, 2.0)
    slope = -0.5j * fourier.kappa * fourier.resolved

    def nonlinear(u: np.ndarray) -> np.ndarray:
        return slope * fourier.transform(fourier.values(u) ** 2)

    start = np.cos(math.pi * fourier.nodes)
    linear = 1j * dispersion * fourier.kappa**3
    return Evolution(fourier, linear, nonlinear, start, 1 / steps, steps)
