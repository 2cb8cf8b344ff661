"""The Gray-Scott equations: two substances that react, and diffuse slowly.

Sources: J. E. Pearson, Complex patterns in a simple system, Science 261 (1993), 189-192; Z. Hao et
al., PINNacle: A comprehensive benchmark of physics-informed neural networks, NeurIPS 2024, arXiv
2306.08827, whose program imposes no condition on the boundary; its data are periodic.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Initial, Periodic
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods.plane import Evolution, Waves

END = 200.0
DIFFUSION = (1e-5, 5e-6)
FEED, DECAY = 0.04, 0.1


def _hill(at: At, x: float, y: float) -> Tensor:
    return torch.exp(-80 * ((at.x - x) ** 2 + (at.y - y) ** 2))


class GrayScott(Equations):
    """u_t = 1e-5 Δu + 0.04 (1 − u) − u v², v_t = 5e-6 Δv − 0.1 v + u v², 0 <= t <= 200, periodic.

    u = 1 − exp(−80 ((x + 0.05)² + (y + 0.02)²)), v = exp(−80 ((x − 0.05)² + (y − 0.02)²)) at t = 0.
    The residuals are multiplied by 10, as the rates are. u = 1 and v = 0 are 9.5e-2 away from the
    solution, both fields together, and 1 away in v.
    """

    geometry = Box(t=(0.0, END), x=(-1.0, 1.0), y=(-1.0, 1.0))
    fields = ("u", "v")
    conditions = (
        Initial(
            {"u": lambda at: 1 - _hill(at, -0.05, -0.02), "v": lambda at: _hill(at, 0.05, 0.02)},
            exact=True,
        ),
        Periodic("x", harmonics=4),
        Periodic("y", harmonics=4),
    )
    test_grid = (21, 51, 51)

    def residuals(self, at: At, u: Field, v: Field) -> dict[str, Tensor]:
        reaction = u * v**2
        return {
            "u": 10 * (u.t - DIFFUSION[0] * u.laplacian - FEED * (1 - u) + reaction),
            "v": 10 * (v.t - DIFFUSION[1] * v.laplacian + DECAY * v - reaction),
        }

    def reference(self, at: At) -> dict[str, Tensor]:
        """See `Equations.reference`; the error is below 1e-3, from t = 20 on 3e-4.

        Relative to the norms it is 3e-6 in u and 1.2e-4 in v, whose fronts are 0.007 wide.
        """
        u, v = solve().at(at.all)
        return {"u": u, "v": v}


@lru_cache(maxsize=2)
def solve(n: int = 384, steps: int = 200) -> Evolution:
    """The solution for times up to 200; kept for later calls.

    Args:
        n: nodes along each coordinate, even.
        steps: of the time.
    """
    space = Waves(n, -1.0, 2.0)
    x, y = space.nodes

    def reaction(_: float, both: np.ndarray) -> np.ndarray:
        u, v = space.values(both)
        made = u * v**2
        return space.transform(np.stack([FEED - made, made]))

    start = np.stack(
        [
            1 - np.exp(-80 * ((x + 0.05) ** 2 + (y + 0.02) ** 2)),
            np.exp(-80 * ((x - 0.05) ** 2 + (y - 0.02) ** 2)),
        ]
    )
    pairs = zip(DIFFUSION, (FEED, DECAY), strict=True)
    linear = np.stack([D * space.laplacian - rate for D, rate in pairs])
    return Evolution(space, linear, reaction, start, END / steps, steps, steps // 20)
