"""Poisson's equation in the unit cube of a hundred dimensions, with a quadratic solution.

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

# The root mean square of |x|² in the cube, so that that of the solution is 1.
SCALE = 33.47


def _exact(at: At) -> Tensor:
    return reduce(torch.add, (x**2 for x in at)) / SCALE


class Poisson100D(Equations):
    """Δu = 200/33.47, u = u* on the faces; the solution is u* = |x|² / 33.47."""

    name = "poisson-100d"
    geometry = Box(**{f"x{i}": (0.0, 1.0) for i in range(1, 101)})
    conditions = (Dirichlet({"u": _exact}),)

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.laplacian - 200 / SCALE

    def reference(self, at: At) -> Tensor:
        return _exact(at)
