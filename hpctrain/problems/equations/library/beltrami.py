"""A flow in three dimensions that is its own vorticity but for a factor, and decays.

Source: C. R. Ethier, D. A. Steinman, Exact fully 3D Navier-Stokes solutions for benchmarking, Int.
J. Numer. Methods Fluids 19 (1994), 369-375.
"""

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


def solve(at: At) -> dict[str, Tensor]:
    """All fields (N,); the pressure is so up to a function of time."""
    t, x, y, z = at.all
    sin, cos, exp = torch.sin, torch.cos, torch.exp

    def velocity(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return -exp(-t) * (exp(x) * sin(y + z) + exp(z) * cos(x + y))

    def pressure(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return exp(2 * x) / 2 + sin(x + y) * cos(z + x) * exp(y + z)

    turned = ((x, y, z), (y, z, x), (z, x, y))
    p = -exp(-2 * t) * (pressure(*turned[0]) + pressure(*turned[1]) + pressure(*turned[2]))
    return dict(zip("uvw", (velocity(*each) for each in turned), strict=True)) | {"p": p}


VELOCITIES = {name: lambda at, name=name: solve(at)[name] for name in "uvw"}


class Beltrami(Equations):
    """∂v/∂t + (v·∇)v + ∇p = Δv, ∇·v = 0 in (−1, 1)³, v at first and on the boundary.

    u = −e^{−t} (e^x sin(y + z) + e^z cos(x + y)), and v, w likewise by turns of x, y, z.
    """

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0), y=(-1.0, 1.0), z=(-1.0, 1.0))
    fields = ("u", "v", "w", "p")
    conditions = (Initial(VELOCITIES, points=1000), Dirichlet(VELOCITIES, points=2000))

    def residuals(self, at: At, u: Field, v: Field, w: Field, p: Field) -> dict[str, Tensor]:
        def carry(f: Field) -> Tensor:
            return f.t + u * f.x + v * f.y + w * f.z - f.laplacian

        return {
            "momentum_x": carry(u) + p.x,
            "momentum_y": carry(v) + p.y,
            "momentum_z": carry(w) + p.z,
            "continuity": u.x + v.y + w.z,
        }

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`: of the velocities."""
        found = solve(at)
        return {name: found[name] for name in VELOCITIES}
