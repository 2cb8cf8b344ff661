"""Poisson's equation on 25 blocks of different conductivity and source.

Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks,
NeurIPS 2024, arXiv 2306.08827, whose program has the equation below in every block, so that a
smooth network solves it with a continuous slope ∂u/∂n. Where a ∂u/∂n is continuous the solution is
another one; which of them its own reference is, is not known to us.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.problems.equations.conditions import Robin
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.methods import blocks

# By block along x, and along y.
CONDUCTIVITY = (
    (46.11728, 0.5973282, 0.2922707, 1.262764, 0.144562),
    (12.71815, 1.469753, 82.58023, 0.2361176, 0.3212575),
    (0.9870683, 9.056933, 87.93604, 0.1319132, 66.24848),
    (6.94013, 1.714366, 1.882944, 0.4777548, 12.26776),
    (65.95316, 22.76514, 5.149506, 10.5173, 6.485008),
)
SOURCE = (
    (-0.5391451, -0.3776799, 0.9593887, 0.2395792, 0.5298503),
    (-0.8754225, 0.9200586, 0.2302176, 0.1264191, -0.8055526),
    (0.3118254, -0.1239761, 0.7558862, -0.05690806, -0.9684977),
    (-0.4054805, 0.8928609, 0.4394579, -0.8037996, 0.50878),
    (0.635646, -0.4348196, -0.8323421, -0.7788386, 0.1785787),
)
BUMP = (
    (-0.8293751, 0.1142822, 0.5864437, -0.937095, 0.4247311),
    (0.4779174, -0.3690794, 0.3396281, 0.3241248, 0.265265),
    (0.663016, -0.07972029, -0.7603945, 0.1051315, -0.05864702),
    (0.07613802, -0.18602, 0.04905803, -0.4134108, 0.2248058),
    (-0.7825124, -0.6358456, 0.884609, 0.6774741, -0.9848308),
)
LOW, SIDE, COUNT = -10.0, 4.0, 5


class PoissonBlocks(Equations):
    """a Δu + f = 0 on (−10, 10)², ∂u/∂n = −u on the boundary; u and its slopes are continuous.

    a is a number on each of 5 × 5 blocks, f = f₀ + f₁ sin πξ sin πη with the place ξ, η in [0, 1]²
    in the block. The residual is divided by a, which goes from 0.13 to 88.
    """

    geometry = Box(x=(LOW, LOW + SIDE * COUNT), y=(LOW, LOW + SIDE * COUNT))
    conditions = (Robin("u"),)
    test_grid = (101, 101)

    def residuals(self, at: At, u: Field) -> Tensor:
        (row, xi), (column, eta) = (_locate(each) for each in at)
        a, f0, f1 = (
            to_tensor(np.array(table)).to(at.x)[row, column]
            for table in (CONDUCTIVITY, SOURCE, BUMP)
        )
        wave = torch.sin(math.pi * xi) * torch.sin(math.pi * eta)
        return u.laplacian + (f0 + f1 * wave) / a

    def reference(self, at: At) -> Tensor:
        """See `Equations.reference`; the error is below 1e-6, relative to ‖u‖ 4e-9."""
        return solve().at(at.all)


def _locate(x: Tensor) -> tuple[Tensor, Tensor]:
    """The number of the block, and the place in it."""
    scaled = (x - LOW) / SIDE
    block = scaled.floor().clamp(0, COUNT - 1)
    return block.long(), scaled - block


@lru_cache(maxsize=2)
def solve(degree: int = 24) -> blocks.Solution:
    """The solution by polynomials of a degree; kept for later calls."""
    a, f0, f1 = (np.array(table) for table in (CONDUCTIVITY, SOURCE, BUMP))
    line = blocks.Line(LOW, LOW + SIDE * COUNT, COUNT, degree)
    return blocks.solve(line, [(f0 / a, np.ones_like), (f1 / a, lambda xi: np.sin(math.pi * xi))])
