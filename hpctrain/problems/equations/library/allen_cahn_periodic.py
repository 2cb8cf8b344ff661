"""The Allen-Cahn equation as most papers on neural networks have it, solved in Fourier space.

Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, J. Comput. Phys. 378 (2019), 686-707. Their data
are a solution by 512 modes, 1.2e-5 away from this one.
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


class AllenCahnPeriodic(Equations):
    """u_t − 1e-4 u_xx + 5 (u³ − u) = 0, u(0, x) = x² cos πx, periodic in x.

    The initial values have slopes −2 and 2 at the ends, from which a layer 0.01 √t wide grows. They
    are met by a term of the loss: a form u = G + t N would keep the kink for ever.
    """

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    diffusion = 1e-4
    conditions = (
        Initial({"u": lambda at: at.x**2 * torch.cos(math.pi * at.x)}),
        Periodic("x"),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - self.diffusion * u.xx + 5 * (u**3 - u)

    def reference(self, at: At) -> Tensor:
        return solve(self.diffusion).at(at.all)


@lru_cache(maxsize=4)
def solve(diffusion: float, n: int = 8192, steps: int = 2000) -> Evolution:
    """The solution for times up to 1; kept for later calls.

    Args:
        n: nodes in [−1, 1), even.
    """
    fourier = Fourier(n, -1.0, 2.0)

    def nonlinear(u: np.ndarray) -> np.ndarray:
        values = fourier.values(u)
        return fourier.resolved * fourier.transform(-5 * values * values * values)

    x = fourier.nodes
    linear = 5 - diffusion * fourier.kappa**2
    return Evolution(fourier, linear, nonlinear, x**2 * np.cos(math.pi * x), 1 / steps, steps)
