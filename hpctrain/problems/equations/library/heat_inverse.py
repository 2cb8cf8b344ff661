"""A conductivity that varies in space, found from measured temperatures.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827; the points of measurement are others.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.equations.conditions import Dirichlet, Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

NOISE = 0.1


def _measure(noise: float) -> dict[str, np.ndarray]:
    """u at 2,500 random points, with normal errors of standard deviation `noise`."""
    random = make_generator(0, "heat-inverse")
    t = random.uniform(0, 1, 2500)
    x, y = random.uniform(-1, 1, (2, 2500))
    u = np.exp(-t) * np.sin(math.pi * x) * np.sin(math.pi * y)
    return {"t": t, "x": x, "y": y, "u": u + noise * random.standard_normal(2500)}


class HeatInverse(Equations):
    """u_t − ∇·(a ∇u) = f with 2,500 values of u(t, x, y); true is a = 2 + S, S = sin πx sin πy.

    a(x, y) is known on the sides. Of u = e^(−t) S there are no initial and no boundary values. The
    values weigh as much as those with errors.
    """

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0), y=(-1.0, 1.0))
    fields = ("u", "a")
    depends = {"a": ("x", "y")}
    sides = Dirichlet({"a": 2.0}, exact=True)
    conditions = (sides, Observations(_measure(0.0), ["u"], weight=1 / NOISE**2))

    def residuals(self, at: At, u: Field, a: Field) -> Tensor:
        return u.t - a.x * u.x - a.y * u.y - a * (u.xx + u.yy) - self.heat(at)

    def heat(self, at: At) -> Tensor:
        """f (N,)."""
        (sx, cx), (sy, cy) = (
            (torch.sin(math.pi * each), torch.cos(math.pi * each)) for each in (at.x, at.y)
        )
        S = sx * sy
        spread = 2 * S**2 - cx**2 * sy**2 - sx**2 * cy**2
        return torch.exp(-at.t) * ((4 * math.pi**2 - 1) * S + math.pi**2 * spread)

    def reference(self, at: At) -> dict[str, Tensor]:
        S = torch.sin(math.pi * at.x) * torch.sin(math.pi * at.y)
        return {"u": torch.exp(-at.t) * S, "a": 2 + S}


class HeatInverseNoisy(HeatInverse):
    """The same with errors of standard deviation 0.1, where the largest |u| is 1."""

    conditions = (HeatInverse.sides, Observations(_measure(NOISE), ["u"], noise=NOISE))
