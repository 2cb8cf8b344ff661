"""Poisson's equation with a solution of four scales.

Source: the benchmark of DSGNAR, arXiv 2607.02194.
"""

import math
from functools import reduce

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

WAVES = (4, 8, 12, 16)


def _wave(at: At, k: int) -> Tensor:
    """sin kπx sin kπy / 4."""
    return torch.sin(k * math.pi * at.x) * torch.sin(k * math.pi * at.y) / 4


class PoissonMultiscale(Equations):
    """−Δu = f in the unit square, u = 0 on its boundary; u = ¼ Σ sin kπx sin kπy, k = 4, 8, 12, 16.

    The residual is divided by 2 (16π)², the largest factor in f.
    """

    geometry = Box(x=(0.0, 1.0), y=(0.0, 1.0))
    conditions = (Dirichlet({"u": 0.0}, exact=True),)
    test_grid = (256, 256)

    def residuals(self, at: At, u: Field) -> Tensor:
        largest = 2 * (math.pi * max(WAVES)) ** 2
        f = reduce(torch.add, (2 * (k * math.pi) ** 2 * _wave(at, k) for k in WAVES))
        return (u.laplacian + f) / largest

    def reference(self, at: At) -> Tensor:
        return reduce(torch.add, (_wave(at, k) for k in WAVES))
