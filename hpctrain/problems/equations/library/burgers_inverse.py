"""Both coefficients of the Burgers equation, found from measured values of its solution.

Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, J. Comput. Phys. 378 (2019), 686-707.
"""

import math

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.equations.conditions import Observations
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.burgers import cole_hopf
from hpctrain.problems.equations.unknowns import Unknown

NU = 0.01 / math.pi


def _measure(noise: float) -> dict[str, np.ndarray]:
    """u at 2,000 random points, with normal errors of `noise` times its standard deviation."""
    random = make_generator(0, "burgers-inverse")
    t, x = random.uniform(0, 1, 2000), random.uniform(-1, 1, 2000)
    u = to_array(cole_hopf(to_tensor(t), to_tensor(x), NU))
    return {"t": t, "x": x, "u": u + noise * u.std() * random.standard_normal(2000)}


class BurgersInverse(Equations):
    """u_t + l1 u u_x = l2 u_xx with 2,000 values of u; true are l1 = 1, l2 = 0.01/π.

    There are no initial and no boundary values. The data are of the solution for
    u(0, x) = −sin πx, u(t, ±1) = 0.
    """

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    unknowns = {
        "l1": Unknown(0.0, true=1.0),
        "l2": Unknown(math.exp(-6), positive=True, true=NU),
    }
    noise = 0.0
    conditions = (Observations(_measure(noise), ["u"]),)

    def residuals(self, at: At, u: Field, l1: Tensor, l2: Tensor) -> Tensor:
        return u.t + l1 * u * u.x - l2 * u.xx

    def reference(self, at: At) -> Tensor:
        return cole_hopf(at.t, at.x, NU)


class BurgersInverseNoisy(BurgersInverse):
    """The same with errors of 1 % of the standard deviation of u."""

    noise = 0.01
    conditions = (Observations(_measure(noise), ["u"]),)
