"""A conductivity that varies in a square, found from a temperature that is measured.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827; in its code the gradient of the conductivity has a wrong sign.
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


def _conductivity(at: At) -> Tensor:
    x, y = at
    return 1 / (1 + x**2 + y**2 + (x - 1) ** 2 + (y - 1) ** 2)


def _temperature(at: At) -> Tensor:
    return torch.sin(math.pi * at.x) * torch.sin(math.pi * at.y)


def _measure(noise: float) -> dict[str, np.ndarray]:
    """u at 50 × 50 points, the boundary's among them, with normal errors."""
    line = np.linspace(0, 1, 50)
    x, y = (each.ravel() for each in np.meshgrid(line, line, indexing="ij"))
    errors = make_generator(0, "poisson-inverse").standard_normal(x.size)
    return {"x": x, "y": y, "u": np.sin(math.pi * x) * np.sin(math.pi * y) + noise * errors}


class PoissonInverse(Equations):
    """−∇·(a ∇u) = f in the unit square, where u is measured and a is known on the boundary.

    In truth u = sin πx sin πy, a = 1 / (1 + x² + y² + (x − 1)² + (y − 1)²). The values of a are a
    term of the loss: as a lifting they would be a.
    """

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    fields = ("u", "a")
    conditions = (
        Dirichlet({"a": _conductivity}, points=500),
        Observations(_measure(0.0), ["u"]),
    )
    test_grid = (101, 101)

    def residuals(self, at: At, u: Field, a: Field) -> Tensor:
        x, y, true = math.pi * at.x, math.pi * at.y, _conductivity(at)
        slope_x = (2 * at.x - 1) * torch.cos(x) * torch.sin(y)
        slope_y = (2 * at.y - 1) * torch.sin(x) * torch.cos(y)
        f = 2 * math.pi**2 * true * _temperature(at) + 2 * math.pi * true**2 * (slope_x + slope_y)
        return a * u.laplacian + a.x * u.x + a.y * u.y + f

    def reference(self, at: At) -> dict[str, Tensor]:
        return {"u": _temperature(at), "a": _conductivity(at)}


class PoissonInverseNoisy(PoissonInverse):
    """The same with normal errors of 0.1; the values of a weigh as if theirs were of 0.01."""

    conditions = (
        Dirichlet({"a": _conductivity}, points=500, weight=1 / 0.01**2),
        Observations(_measure(NOISE), ["u"], noise=NOISE),
    )
