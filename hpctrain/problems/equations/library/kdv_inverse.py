"""Both coefficients of the Korteweg-de Vries equation, found from two snapshots of its solution.

Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, J. Comput. Phys. 378 (2019), 686-707, where one
Runge-Kutta step of 50 stages leads from the first to the second; here time is a coordinate.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_array
from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.equations.conditions import Observations, Periodic
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library import kdv
from hpctrain.problems.equations.library.methods.etdrk4 import Evolution
from hpctrain.problems.equations.unknowns import Unknown

DISPERSION = 0.0025
# Values that are known, by time.
COUNTS = {0.2: 199, 0.8: 201}


def solve(n: int = 192, steps: int = 4000) -> Evolution:
    """The solution for times up to 1; see `kdv.solve`."""
    return kdv.solve(DISPERSION, n, steps)


def _measure() -> dict[str, np.ndarray]:
    """u at random places of both snapshots."""
    random = make_generator(0, "kdv-inverse")
    t = np.concatenate([np.full(count, time) for time, count in COUNTS.items()])
    x = random.uniform(-1, 1, len(t))
    return {"t": t, "x": x, "u": to_array(solve().at(torch.tensor(np.stack([t, x]))))}


class KdvInverse(Equations):
    """u_t + l1 u u_x + l2 u_xxx = 0, periodic in x; true are l1 = 1, l2 = 0.0025.

    Known are 199 values at t = 0.2 and 201 at t = 0.8 of the solution that starts with cos πx.
    """

    geometry = Box(t=(0.2, 0.8), x=(-1.0, 1.0))
    unknowns = {
        "l1": Unknown(0.0, true=1.0),
        "l2": Unknown(math.exp(-6), positive=True, true=DISPERSION),
    }

    def __init__(self) -> None:
        self.conditions = (Observations(_measure(), ["u"]), Periodic("x", harmonics=6))

    def residuals(self, at: At, u: Field, l1: Tensor, l2: Tensor) -> Tensor:
        return u.t + l1 * u * u.x + l2 * u.xxx

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 1e-9."""
        return solve().at(at.all)
