"""The Burgers equation for a range of viscosities, which are an input of the network."""

import math

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box
from hpctrain.problems.equations.library.burgers import cole_hopf

# Points a batch: batch × nodes doubles, a few of them at a time, stay in the cache.
_BATCH = 2048


class BurgersParametric(Equations):
    """u_t + u u_x = ν u_xx, u(0, x) = −sin πx, u(t, ±1) = 0 for all ν from 0.005/π to 0.05/π."""

    geometry = Box(t=(0.0, 1.0), x=(-1.0, 1.0))
    inputs = {"nu": (0.005 / math.pi, 0.05 / math.pi)}
    conditions = (
        Initial({"u": lambda at: -torch.sin(math.pi * at.x)}, exact=True),
        Dirichlet({"u": 0.0}, exact=True),
    )

    def residuals(self, at: At, u: Field) -> Tensor:
        return u.t + u * u.x - at.nu * u.xx

    def reference(self, at: At) -> Tensor:
        return torch.cat([cole_hopf(*batch) for batch in at.all.split(_BATCH, dim=1)])
