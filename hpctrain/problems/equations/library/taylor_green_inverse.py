"""Both coefficients of the Navier-Stokes equations, found from velocities of vortices that drift.

Sources: M. Raissi, P. Perdikaris, G. E. Karniadakis, J. Comput. Phys. 378 (2019), 686-707, for the
problem, there with a wake behind a cylinder; G. I. Taylor, A. E. Green, Proc. R. Soc. A 158 (1937),
499-521, for the flow. It drifts since in the flow at rest v·∇v is a gradient, which the pressure
would take up with any factor.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.equations.conditions import Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Axes, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.unknowns import Unknown

NU = 0.01
BOX = {"t": (0.0, 1.0), "x": (0.0, 2 * math.pi), "y": (0.0, 2 * math.pi)}


def solve(at: At) -> dict[str, Tensor]:
    """ψ and p, which are so up to functions of time, and the velocities ψ_y and −ψ_x, (N,) each."""
    x, y, decay = at.x - at.t, at.y, torch.exp(-2 * NU * at.t)
    return {
        "psi": y + torch.cos(x) * torch.cos(y) * decay,
        "p": -(torch.cos(2 * x) + torch.cos(2 * y)) * decay**2 / 4,
        "u": 1 - torch.cos(x) * torch.sin(y) * decay,
        "v": torch.sin(x) * torch.cos(y) * decay,
    }


def _measure() -> dict[str, np.ndarray]:
    """Both velocities, as slopes of ψ, at 5,000 random points."""
    random = make_generator(0, "taylor-green-inverse")
    points = np.stack([random.uniform(*bounds, 5000) for bounds in BOX.values()])
    found = solve(At(Axes(tuple(BOX)), to_tensor(points)))
    slopes = {"psi.y": to_array(found["u"]), "psi.x": -to_array(found["v"])}
    return dict(zip(BOX, points, strict=True)) | slopes


class TaylorGreenInverse(Equations):
    """v_t + l1 (v·∇)v + ∇p = l2 Δv, u = ψ_y, v = −ψ_x; true are l1 = 1, l2 = 0.01.

    Velocities are measured at 5,000 points, the pressure nowhere.
    """

    geometry = Box(**BOX)
    fields = ("psi", "p")
    unknowns = {"l1": Unknown(0.0, true=1.0), "l2": Unknown(0.0, true=NU)}
    conditions = (Observations(_measure(), ["psi.y", "psi.x"]),)

    def residuals(self, at: At, psi: Field, p: Field, l1: Tensor, l2: Tensor) -> dict[str, Tensor]:
        u, v = psi.y, -psi.x
        carried = u * psi.xy + v * psi.yy, u * psi.xx + v * psi.xy
        return {
            "momentum_x": psi.ty + l1 * carried[0] + p.x - l2 * (psi.xxy + psi.yyy),
            "momentum_y": -psi.tx - l1 * carried[1] + p.y + l2 * (psi.xxx + psi.xyy),
        }

    def quantities(self, at: At, psi: Field) -> dict[str, Tensor]:
        return {"u": psi.y, "v": -psi.x}

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`: of the velocities."""
        found = solve(at)
        return {name: found[name] for name in ("u", "v")}
