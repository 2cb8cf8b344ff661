"""A bar of elliptic cross-section that is twisted, so that its cross-sections warp.

Source: A. J. C. Barré de Saint-Venant (1855), in S. P. Timoshenko, J. N. Goodier, Theory of
Elasticity, McGraw-Hill (1970), sections 104 and 105.
"""

from typing import Any

from torch import Tensor

from hpctrain.problems.equations.conditions import Condition, Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Ellipse, Interval
from hpctrain.problems.equations.library.methods.elasticity import Material

BODY = Material(lam=1.5, mu=1.0)
TWIST = 0.5
# Semi-axes of the cross-section.
LONG, SHORT = 1.0, 0.6
WARPING = (LONG**2 - SHORT**2) / (LONG**2 + SHORT**2)


class EllipticBar(Equations):
    """∇·σ = 0 for x² + (y/0.6)² < 1, 0 < z < 2; displaced at both ends, σn = 0 on the side.

    The displacement is θ (−yz, xz, −c xy) with the twist θ = 0.5 and c = (1 − 0.6²) / (1 + 0.6²).
    """

    geometry = Ellipse((0.0, 0.0), (LONG, SHORT)) * Interval(z=(0.0, 2.0))
    fields = ("u", "v", "w")
    conditions = (
        Dirichlet(
            {
                "u": lambda at: -TWIST * at.y * at.z,
                "v": lambda at: TWIST * at.x * at.z,
                "w": lambda at: -TWIST * WARPING * at.x * at.y,
            },
            on="z",
        ),
        Condition(BODY.find_traction, on="ellipse", name="free"),
    )

    def residuals(self, at: At, u: Field, v: Field, w: Field) -> tuple[Any, Any, Any]:
        return BODY.find_forces(u, v, w)

    def reference(self, at: At) -> dict[str, Tensor]:
        x, y, z = at
        return {"u": -TWIST * y * z, "v": TWIST * x * z, "w": -TWIST * WARPING * x * y}
