"""Flow in a square cavity below a sliding lid, solved for the stream function.

Sources: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, for the lid; O. Botella, R. Peyret, Computers & Fluids 27 (1998),
421-433, for one that vanishes twice at both ends.
"""

from functools import lru_cache

import torch
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


class LidDrivenCavityStream(Equations):
    """The flow of `LidDrivenCavity` by its stream function, u = ψ_y, v = −ψ_x.

    Mass is conserved exactly: with velocities as fields, what leaks at both ends of the lid, where
    ∇·u = 0 has no smooth solution, spoils the whole flow. ψ and its slopes on the walls hold
    by form. On the lid G_y = 4a²/√(a² + ε²), a = x (1 − x), differs from u by less than 2ε²/a.
    Momentum is weighed by r²/(r² + 0.05²) of the distance r from each end of the lid, where
    its residuals grow like 1/r and have no finite mean square.
    """

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    fields = ("psi", "p")
    conditions = (Integral(lambda at, p: p, points=1000),)
    test_grid = (101, 101)
    epsilon = 1e-3

    def ansatz(self, at: At) -> dict[str, tuple[Tensor, Tensor]]:
        a, b = at.x * (1 - at.x), 1 - at.y
        lid = 4 * a**2 / torch.sqrt(a**2 + b**2 + self.epsilon**2)
        return {"psi": (-lid * at.y**2 * b, (a * at.y * b) ** 2)}

    def residuals(self, at: At, psi: Field, p: Field) -> dict[str, Tensor]:
        u, v = psi.y, -psi.x
        weight: Tensor | float = 1.0
        for end in (0.0, 1.0):
            square = (at.x - end) ** 2 + (1 - at.y) ** 2
            weight = weight * square / (square + 0.05**2)
        x = u * psi.xy + v * psi.yy + p.x - (psi.xxy + psi.yyy) / REYNOLDS
        y = -u * psi.xx - v * psi.xy + p.y + (psi.xxx + psi.xyy) / REYNOLDS
        return {"momentum_x": weight * x, "momentum_y": weight * y}

    def quantities(self, at: At, psi: Field) -> dict[str, Tensor]:
        return {"u": psi.y, "v": -psi.x}

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `LidDrivenCavity.reference`."""
        u, v = solve(LidDrivenCavity.lid, LidDrivenCavity.degree).velocities(at.all)
        return {"u": u, "v": v}


@lru_cache(maxsize=4)
def solve(lid: tuple[float, ...], degree: int) -> stream.Cavity:
    """The flow below a lid whose velocity has these coefficients; kept for later calls."""
    return stream.solve(Polynomial(lid), REYNOLDS, degree)
