"""The logarithm of a density that drifts and spreads in nine dimensions.

With p = e^q the equation is that of Fokker and Planck for the drift −x/2.

Source: F. Dangel, J. Müller, M. Zeinhofer, Kronecker-factored approximate curvature for
physics-informed neural networks, NeurIPS 2024, arXiv 2405.15603.
"""

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

_D = 9
_NAMES = tuple(f"x{i}" for i in range(1, _D + 1))


def _add(parts: Any) -> Any:
    return reduce(lambda one, other: one + other, parts)


def _logarithm(at: At) -> Tensor:
    """That of the normal density of variance c = 2 − e^{−t}: −|x|²/2c − d/2 log 2πc."""
    c = 2 - torch.exp(-at.t)
    return -_add(x**2 for x in at.all[1:]) / (2 * c) - _D / 2 * torch.log(2 * math.pi * c)


def _at_start(at: At) -> Tensor:
    """That of variance 1, whatever the time."""
    return -_add(x**2 for x in at.all[1:]) / 2 - _D / 2 * math.log(2 * math.pi)


class LogFokkerPlanck(Equations):
    """q_t = d/2 + x·∇q/2 + Δq + |∇q|², d = 9, q(0, x) = −|x|²/2 − d/2 log 2π, no other condition.

    The solution is −|x|²/2c − d/2 log 2πc, c = 2 − e^{−t}.
    """

    geometry = Box(t=(0.0, 1.0), **dict.fromkeys(_NAMES, (-5.0, 5.0)))
    fields = ("q",)
    conditions = (Initial({"q": _at_start}, exact=True),)

    def residuals(self, at: At, q: Field) -> Tensor:
        slopes = [getattr(q, name) for name in _NAMES]
        drift = _add(x * slope for x, slope in zip(at.all[1:], slopes, strict=True)) / 2
        return q.t - _D / 2 - drift - q.laplacian - _add(slope**2 for slope in slopes)

    def reference(self, at: At) -> Tensor:
        return _logarithm(at)
