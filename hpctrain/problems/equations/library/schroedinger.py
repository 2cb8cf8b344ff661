"""The focusing nonlinear Schrödinger equation for two real fields, solved in Fourier space.

Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, J. Comput. Phys. 378 (2019), 686-707. Their
data are a solution by 256 modes, 1.7e-5 away from this one.
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


class Schroedinger(Equations):
    """i h_t + h_xx/2 + |h|² h = 0 for h = u + i v, h(0, x) = 2 sech x, periodic in x.

    The initial values have a slope of 0.054 to both sides of the ends. They are met by a term of
    the loss: a form u = G + t N would keep that kink, which the equation spreads at once.
    """

    geometry = Box(t=(0.0, math.pi / 2), x=(-5.0, 5.0))
    fields = ("u", "v")
    conditions = (
        Initial({"u": lambda at: 4 / (torch.exp(at.x) + torch.exp(-at.x)), "v": 0.0}),
        Periodic("x"),
    )

    def residuals(self, at: At, u: Field, v: Field) -> tuple[Tensor, Tensor]:
        square = u**2 + v**2
        return u.t + v.xx / 2 + square * v, v.t - u.xx / 2 - square * u

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`; the error is below 3e-6, relative to ‖h‖ 5e-7.

        It is that of the modes that are left out, and falls with n^(-3/2).
        """
        h = solve().at(at.all)
        return {"u": h.real.contiguous(), "v": h.imag.contiguous()}


@lru_cache(maxsize=4)
def solve(n: int = 4096, steps: int = 2000, half: float = 5.0) -> Evolution:
    """h for times up to π/2; kept for later calls.

    The kink fills all modes. The high ones turn with 2 ⟨|h|²⟩, which is 1.6 for ever, beside κ²/2.
    Left to N that would make the method one of order one.

    Args:
        n: nodes, even.
        steps: of the time.
        half: the solution repeats itself outside of [−half, half).
    """
    fourier = Fourier(n, -half, 2 * half, is_real=False)

    def nonlinear(h: np.ndarray) -> np.ndarray:
        values = fourier.values(h)
        square = values.real**2 + values.imag**2
        return 1j * fourier.resolved * fourier.transform((square - mean_turn) * values)

    start = (2 / np.cosh(fourier.nodes)).astype(complex)
    mean_turn = 2 * float(np.mean(np.abs(start) ** 2))
    linear = 1j * (mean_turn - fourier.kappa**2 / 2)
    return Evolution(fourier, linear, nonlinear, start, math.pi / 2 / steps, steps)
