"""The Klein-Gordon equation with a quadratic term, and a source made for a known solution.

Source: A. Kopaničáková, H. Kothari, G. E. Karniadakis, R. Krause, Enhancing training of
physics-informed neural networks using domain decomposition based preconditioning strategies,
SIAM J. Sci. Comput. 46(5) (2024), arXiv 2306.17648.
"""

import torch
from torch import Tensor

from hpctrain.problems.equations.system import PDE, Jet


class KleinGordon(PDE):
    """u_tt − u_xx + u² = f, f = −x cos t + x² cos² t, whose solution is u = x cos t.

    u(0, x) = x, u_t(0, x) = 0, u(t, ±1) = ±cos t. The lifting is none that solves the equation,
    such as the linear blend x cos t of the boundary values: nothing would be left to learn.
    """

    name = "klein-gordon"
    coordinates = ("t", "x")
    domain = ((0.0, 12.0), (-1.0, 1.0))
    orders = (2, 2)

    def lifting(self, points: Tensor) -> Tensor:
        t, x = points
        return x + x**3 * (torch.cos(t) - 1)

    def distance(self, points: Tensor) -> Tensor:
        t, x = points
        return t**2 * (1 - x**2)

    def residual(self, points: Tensor, u: Jet) -> Tensor:
        t, x = points
        f = -x * torch.cos(t) + (x * torch.cos(t)) ** 2
        return u.tt - u.xx + u.value**2 - f

    def reference(self, points: Tensor) -> Tensor:
        t, x = points
        return x * torch.cos(t)
