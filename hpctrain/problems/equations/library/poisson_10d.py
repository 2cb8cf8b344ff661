"""Laplace's equation in the unit cube of ten dimensions, with a quadratic solution.

Source: F. Dangel, J. Müller, M. Zeinhofer, Kronecker-factored approximate curvature for
physics-informed neural networks, NeurIPS 2024, arXiv 2405.15603.
"""

from functools import reduce

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


def _exact(at: At) -> Tensor:
    return reduce(torch.add, (at[i] * at[i + 1] for i in range(0, 10, 2)))


class Poisson10D(Equations):
    """Δu = 0, u = u* on the faces; the solution is u* = x₁x₂ + x₃x₄ + … + x₉x₁₀."""

    name = "poisson-10d"
    geometry = Box(**{f"x{i}": (0.0, 1.0) for i in range(1, 11)})
    conditions = (Dirichlet({"u": _exact}, points=2000),)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.laplacian

    def reference(self, at: At) -> Tensor:
        return _exact(at)
