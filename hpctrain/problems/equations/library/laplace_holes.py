"""Laplace's equation in a square with four round holes, solved by harmonic functions.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827; its own reference is 2.8e-5 away from this one.
"""

from functools import lru_cache, reduce
from operator import sub

from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box, Disk, Geometry
from hpctrain.problems.equations.library.methods import trefftz

HOLES = tuple(((x, y), 0.1) for x in (-0.3, 0.3) for y in (-0.3, 0.3))
_SQUARE: Geometry = Box(x=(-0.5, 0.5), y=(-0.5, 0.5))


class LaplaceHoles(Equations):
    """Δu = 0 in (−½, ½)² less four disks; u = 1 on the square and 0 on the circles."""

    geometry = reduce(sub, (Disk(*hole) for hole in HOLES), _SQUARE)
    conditions = (
        Dirichlet({"u": 1.0}, on=("x", "y")),
        Dirichlet({"u": 0.0}, on="circle"),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.laplacian

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 1e-9."""
        return solve().at(at.all)


@lru_cache(maxsize=2)
def solve(regular: int = 80, of_hole: int = 20) -> trefftz.Expansion:
    """The solution by functions up to these orders; kept for later calls."""
    values = (1.0, *(0.0 for _ in HOLES))
    return trefftz.solve(0.5, HOLES, 0.0, (regular, of_hole), values)
