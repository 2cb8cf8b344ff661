"""Flow in a square cavity below a sliding lid, solved for the stream function.

Sources: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, for the lid; O. Botella, R. Peyret, Computers & Fluids 27 (1998),
421-433, for one that vanishes twice at both ends.
"""

from functools import lru_cache

from numpy.polynomial import Polynomial
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Integral
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods import stream

REYNOLDS = 100.0
_AT_REST = [Dirichlet({"u": 0.0, "v": 0.0}, on=f) for f in ("x", "y.low")]


class LidDrivenCavity(Equations):
    """u·∇u + ∇p = Δu / Re, ∇·u = 0, Re = 100, u = 4x (1 − x) on the lid y = 1, else at rest.

    The mean of the pressure is 0. The vorticity jumps at both ends of the lid.
    """

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    fields = ("u", "v", "p")
    lid: tuple[float, ...] = (0.0, 4.0, -4.0)
    degree = 40
    conditions = (
        Dirichlet({"u": lambda at: 4 * at.x * (1 - at.x), "v": 0.0}, on="y.high"),
        *_AT_REST,
        Integral(lambda at, p: p, points=1000),
    )
    test_grid = (101, 101)

    def residuals(self, at: At, u: Field, v: Field, p: Field) -> dict[str, Tensor]:
        return {
            "momentum_x": u * u.x + v * u.y + p.x - (u.xx + u.yy) / REYNOLDS,
            "momentum_y": u * v.x + v * v.y + p.y - (v.xx + v.yy) / REYNOLDS,
            "continuity": u.x + v.y,
        }

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`: of the velocities.

        The error next to the lid's ends is 1e-6, relative to the norms 1e-7. Those of
        `CavityRegularised` are a fifth of that.
        """
        u, v = solve(self.lid, self.degree).velocities(at.all)
        return {"u": u, "v": v}


class CavityRegularised(LidDrivenCavity):
    """The same with u = 16 x² (1 − x)² on the lid: a smooth flow."""

    lid = (0.0, 0.0, 16.0, -32.0, 16.0)
    conditions = (
        Dirichlet({"u": lambda at: 16 * (at.x * (1 - at.x)) ** 2, "v": 0.0}, on="y.high"),
        *LidDrivenCavity.conditions[1:],
    )


@lru_cache(maxsize=4)
def solve(lid: tuple[float, ...], degree: int) -> stream.Cavity:
    """The flow below a lid whose velocity has these coefficients; kept for later calls."""
    return stream.solve(Polynomial(lid), REYNOLDS, degree)
