"""The Klein-Gordon equation with a quadratic term, and a source made for a known solution.

Source: A. Kopaničáková, H. Kothari, G. E. Karniadakis, R. Krause, Enhancing training of
physics-informed neural networks using domain decomposition based preconditioning strategies,
SIAM J. Sci. Comput. 46(5) (2024), arXiv 2306.17648.
"""

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box


class KleinGordon(Equations):
    """u_tt − u_xx + u² = f, f = −x cos t + x² cos² t, whose solution is u = x cos t.

    u(0, x) = x, u_t(0, x) = 0, u(t, ±1) = ±cos t. The lifting is none that solves the equation,
    such as the linear blend x cos t of the boundary values: nothing would be left to learn.
    """

    geometry = Box(t=(0.0, 12.0), x=(-1.0, 1.0))
    conditions = (
        Initial({"u": lambda at: at.x, "u.t": 0.0}),
        Dirichlet({"u": lambda at: at.x * torch.cos(at.t)}),
    )

    def ansatz(self, at: At) -> dict[str, tuple[Tensor, Tensor]]:
        t, x = at
        return {"u": (x + x**3 * (torch.cos(t) - 1), t**2 * (1 - x**2))}

    def residuals(self, at: At, u: Field) -> Tensor:
        t, x = at
        f = -x * torch.cos(t) + (x * torch.cos(t)) ** 2
        return u.tt - u.xx + u**2 - f

    def reference(self, at: At) -> Tensor:
        return at.x * torch.cos(at.t)
