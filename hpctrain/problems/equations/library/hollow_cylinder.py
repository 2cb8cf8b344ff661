"""A thick open cylinder under pressure from inside, which widens and becomes shorter.

Source: G. Lamé, Leçons sur la théorie mathématique de l'élasticité des corps solides (1852); L. D.
Landau, E. M. Lifshitz, Theory of Elasticity, Pergamon (1970), section 7, problem 4.
"""

from typing import Any

from torch import Tensor

from hpctrain.problems.equations.conditions import Condition, Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box, Disk, Interval
from hpctrain.problems.equations.library.methods.elasticity import Material

BODY = Material(lam=1.5, mu=1.0)
INNER, OUTER, PRESSURE = 1.0, 2.0, 1.0
# The mean of the stresses along r and along the angle, which is the same everywhere.
_MEAN = PRESSURE * INNER**2 / (OUTER**2 - INNER**2)
_YOUNG = BODY.mu * (3 * BODY.lam + 2 * BODY.mu)
A = _MEAN * (BODY.lam + 2 * BODY.mu) / (2 * _YOUNG)
B = _MEAN * OUTER**2 / (2 * BODY.mu)
STRETCH = -_MEAN * BODY.lam / _YOUNG


def _pressed(at: At, u: Field, v: Field, w: Field) -> tuple[Any, ...]:
    pairs = zip(BODY.find_traction(at, u, v, w), at.normal, strict=True)
    return tuple(traction + PRESSURE * n for traction, n in pairs)


def _shear(at: At, u: Field, v: Field, w: Field) -> tuple[Any, ...]:
    """The traction along a plane that is one of the coordinate planes."""
    pairs = zip(BODY.find_traction(at, u, v, w), at.normal, strict=True)
    return tuple(traction * (1 - n**2) for traction, n in pairs)


class HollowCylinder(Equations):
    """∇·σ = 0 for 1 < r < 2, 0 < z < 1, λ = 1.5, μ = 1; σn = −n at r = 1; σn = 0 at r = 2, z = 1.

    A quarter of the upper half is computed: on x = 0, y = 0 and z = 0 there is no displacement
    along the normal, and no shear. The displacement is ((A + B/r²) x, (A + B/r²) y, ε z).
    """

    _ring = Disk((0.0, 0.0), OUTER, name="outer") - Disk((0.0, 0.0), INNER, name="inner")
    geometry = (_ring & Box(x=(0.0, OUTER), y=(0.0, OUTER))) * Interval(z=(0.0, 1.0))
    fields = ("u", "v", "w")
    conditions = (
        Condition(_pressed, on="inner", name="pressure"),
        Condition(BODY.find_traction, on=("outer", "z.high"), name="free"),
        Dirichlet({"u": 0.0}, on="x.low", exact=True),
        Dirichlet({"v": 0.0}, on="y.low", exact=True),
        Dirichlet({"w": 0.0}, on="z.low", exact=True),
        Condition(_shear, on=("x.low", "y.low", "z.low"), name="shear"),
    )

    def residuals(self, at: At, u: Field, v: Field, w: Field) -> tuple[Any, Any, Any]:
        return BODY.find_forces(u, v, w)

    def reference(self, at: At) -> dict[str, Tensor]:
        widening = A + B / (at.x**2 + at.y**2)
        return {"u": widening * at.x, "v": widening * at.y, "w": STRETCH * at.z}
