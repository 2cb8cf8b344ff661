"""Logistic growth on a circle, without and with diffusion.

Source: A. S. Krishnapriyan et al., Characterizing possible failure modes in physics-informed
neural networks, NeurIPS 34 (2021). Their solution with diffusion, by splitting in 100 steps, is
2.7e-3 away from this one.
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

RATE = 5.0
_WIDTH = math.pi / 4


def _bump(at: At) -> Tensor:
    return torch.exp(-((at.x - math.pi) ** 2) / (2 * _WIDTH**2))


class Reaction(Equations):
    """u_t = 5 u (1 − u), u(0, x) = exp(−(x − π)² / (2 (π/4)²)), of one value at both ends.

    The solution is g e^{5t} / (g e^{5t} + 1 − g), g being the initial values. Their slopes at the
    ends differ by 7e-3, and so do its own: only the values are periodic.
    """

    geometry = Box(t=(0.0, 1.0), x=(0.0, 2 * math.pi))
    conditions = (
        Initial({"u": _bump}, exact=True),
        Periodic("x", exact=False, derivatives=1),
    )
    test_grid = (101, 257)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - RATE * u * (1 - u)

    def reference(self, at: At) -> Tensor:
        g, growth = _bump(at), torch.exp(RATE * at.t)
        return g * growth / (g * growth + 1 - g)


class ReactionDiffusion(Equations):
    """u_t = ν u_xx + 5 u (1 − u), ν = 5, from the same values, periodic in x.

    The initial values are met by a term of the loss: a form u = G + t N would keep their kink at
    the ends, which diffusion takes away at once. It has the weight 100, since an error of small
    values grows up to e^5 times.
    """

    geometry = Box(t=(0.0, 1.0), x=(0.0, 2 * math.pi))
    diffusion = 5.0
    conditions = (Initial({"u": _bump}, weight=100.0), Periodic("x"))
    test_grid = (101, 257)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t - self.diffusion * u.xx - RATE * u * (1 - u)

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 2e-8 where t > 0.01."""
        return solve(self.diffusion).at(at.all)


class ReactionDiffusionSlow(ReactionDiffusion):
    """The same with ν = 3."""

    diffusion = 3.0


@lru_cache(maxsize=4)
def solve(diffusion: float, n: int = 1024, steps: int = 500) -> Evolution:
    """The solution for times up to 1; kept for later calls.

    Args:
        n: nodes in [0, 2π), even.
        steps: of the time.
    """
    fourier = Fourier(n, 0.0, 2 * math.pi)

    def nonlinear(u: np.ndarray) -> np.ndarray:
        return -RATE * fourier.resolved * fourier.transform(fourier.values(u) ** 2)

    start = np.exp(-((fourier.nodes - math.pi) ** 2) / (2 * _WIDTH**2))
    linear = RATE - diffusion * fourier.kappa**2
    return Evolution(fourier, linear, nonlinear, start, 1 / steps, steps)
