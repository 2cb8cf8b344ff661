"""A square plate by displacements and stresses: a mixed form of order one, by a known solution.

Source: E. Haghighat et al., A physics-informed deep learning framework for inversion and surrogate
modeling in solid mechanics, Computer Methods in Applied Mechanics and Engineering 379 (2021)
113741, as L. Lu et al. state it among the examples of DeepXDE.
"""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

LAM, MU, Q = 1.0, 0.5, 4.0
_STIFF = LAM + 2 * MU


def _top(at: At) -> Tensor:
    return _STIFF * Q * torch.sin(math.pi * at.x)


class ElasticPlate(Equations):
    """∇·σ = f, σ = λ (∇·u) I + μ (∇u + ∇uᵀ) in the unit square, λ = 1, μ = 0.5.

    f is made for u = (cos 2πx sin πy, Q y⁴ sin(πx)/4), Q = 4. Of displacements and stresses only
    those are given that are zero on a side, and σ_yy on top.
    """

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    fields = ("u", "v", "sxx", "syy", "sxy")
    conditions = (
        Dirichlet({"u": 0.0}, on="y", exact=True),
        Dirichlet({"v": 0.0}, on=("x", "y.low"), exact=True),
        Dirichlet({"sxx": 0.0}, on="x", exact=True),
        Dirichlet({"syy": _top}, on="y.high", exact=True),
    )
    test_grid = (101, 101)

    def residuals(
        self, at: At, u: Field, v: Field, sxx: Field, syy: Field, sxy: Field
    ) -> dict[str, Tensor]:
        x, y, pi = math.pi * at.x, math.pi * at.y, math.pi
        along_x, along_y = torch.cos(2 * x) * torch.sin(y), torch.sin(2 * x) * torch.cos(y)
        push, bend = Q * at.y**3 * torch.cos(x), Q * at.y**4 * torch.sin(x)
        fx = -(pi**2) * (4 * _STIFF + MU) * along_x + pi * (LAM + MU) * push
        fy = -2 * pi**2 * (LAM + MU) * along_y - pi**2 / 4 * MU * bend
        fy = fy + 3 * _STIFF * Q * at.y**2 * torch.sin(x)
        return {
            "force_x": sxx.x + sxy.y - fx,
            "force_y": sxy.x + syy.y - fy,
            "stress_xx": _STIFF * u.x + LAM * v.y - sxx,
            "stress_yy": _STIFF * v.y + LAM * u.x - syy,
            "stress_xy": MU * (u.y + v.x) - sxy,
        }

    def reference(self, at: At) -> dict[str, Tensor]:
        x, y, pi = math.pi * at.x, math.pi * at.y, math.pi
        ux, vy = -2 * pi * torch.sin(2 * x) * torch.sin(y), Q * at.y**3 * torch.sin(x)
        shear = pi * torch.cos(2 * x) * torch.cos(y) + pi / 4 * Q * at.y**4 * torch.cos(x)
        return {
            "u": torch.cos(2 * x) * torch.sin(y),
            "v": Q * at.y**4 * torch.sin(x) / 4,
            "sxx": _STIFF * ux + LAM * vy,
            "syy": _STIFF * vy + LAM * ux,
            "sxy": MU * shear,
        }
