"""Heat with a source that depends on the temperature, and forms plateaus with thin fronts.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, for times up to 100; its own reference is 2e-3 … 8e-3 away from the
solution at t <= 4.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods.plane import Evolution, Sines

END = 5.0
DIFFUSION = 0.001


class HeatLong(Equations):
    """u_t = 0.001 Δu + 5 sin(u²) (1 + 2 sin πt/4) sin 4πx sin 2πy for 0 <= t <= 5.

    u = sin 4πx sin 3πy at t = 0, and 0 on the boundary. Plateaus are at ±√π.
    """

    geometry = Box(t=(0.0, END), x=(0.0, 1.0), y=(0.0, 1.0))
    conditions = (
        Initial(
            {"u": lambda at: torch.sin(4 * math.pi * at.x) * torch.sin(3 * math.pi * at.y)},
            exact=True,
        ),
        Dirichlet({"u": 0.0}, exact=True),
    )
    test_grid = (11, 65, 65)

    def residuals(self, at: At, u: Field) -> Tensor:
        strength = 5 * (1 + 2 * torch.sin(math.pi / 4 * at.t))
        where = torch.sin(4 * math.pi * at.x) * torch.sin(2 * math.pi * at.y)
        return u.t - DIFFUSION * u.laplacian - strength * where * torch.sin(u**2)

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 1e-5, relative to ‖u‖ 3e-7."""
        return solve().at(at.all)[0]


@lru_cache(maxsize=2)
def solve(n: int = 255, steps: int = 1000) -> Evolution:
    """The solution for times up to 5; kept for later calls.

    It is odd about x = 0, ¼, ½, …, as the initial values and the source are, so that waves along x
    have a multiple of 4 half-waves. Those of sin u² are not cut off: they fall as those of u do.

    Args:
        n: waves along y; one less than a multiple of 4.
        steps: of the time.
    """
    space = Sines(((n + 1) // 4 - 1, n), (0.25, 1.0))
    x, y = space.nodes
    where = np.sin(4 * math.pi * x) * np.sin(2 * math.pi * y)

    def source(t: float, u: np.ndarray) -> np.ndarray:
        strength = 5 * (1 + 2 * math.sin(math.pi / 4 * t))
        return strength * space.transform(where * np.sin(space.values(u) ** 2))

    start = np.sin(4 * math.pi * x) * np.sin(3 * math.pi * y)
    linear = DIFFUSION * space.laplacian[None]
    return Evolution(space, linear, source, start[None], END / steps, steps, steps // 10)
