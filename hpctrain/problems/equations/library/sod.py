"""A gas in a tube whose halves have different pressures: a shock, a contact, and a rarefaction.

Sources: G. A. Sod, J. Comput. Phys. 27 (1978), 1-31; E. F. Toro, Riemann Solvers and Numerical
Methods for Fluid Dynamics (2009), chapter 4, for the solution.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions import Dirichlet, Initial
from hpctrain.problems.equations.conditions.base import Given
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import Box

GAMMA = 1.4
MIDDLE = 0.5
# ρ, u, p.
LEFT, RIGHT = (1.0, 0.0, 1.0), (0.125, 0.0, 0.1)
NAMES = ("rho", "u", "p")


@lru_cache(maxsize=1)
def find_middle() -> tuple[float, float]:
    """p* and u* between the rarefaction on the left and the shock on the right."""
    (rho_l, _, p_l), (rho_r, _, p_r) = LEFT, RIGHT
    c_l, beta = math.sqrt(GAMMA * p_l / rho_l), (GAMMA - 1) / (GAMMA + 1)

    def fan(p: float) -> float:
        """The velocity behind the rarefaction at a pressure."""
        return 2 * c_l / (GAMMA - 1) * (1 - (p / p_l) ** ((GAMMA - 1) / (2 * GAMMA)))

    def shock(p: float) -> float:
        """That behind the shock."""
        return (p - p_r) * math.sqrt(2 / ((GAMMA + 1) * rho_r) / (p + beta * p_r))

    low, high = p_r, p_l  # between them the first falls below the second
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if fan(middle) > shock(middle) else (low, middle)
    return middle, fan(middle)


def solve(t: Tensor, x: Tensor) -> Tensor:
    """ρ, u and p (3, N) at points (N,)."""
    (rho_l, _, p_l), (rho_r, _, p_r) = LEFT, RIGHT
    (p, u), beta = find_middle(), (GAMMA - 1) / (GAMMA + 1)
    c_l = math.sqrt(GAMMA * p_l / rho_l)
    c_fan = c_l - (GAMMA - 1) / 2 * u
    rho_shock = rho_r * (p / p_r + beta) / (beta * p / p_r + 1)
    speed = rho_shock * u / (rho_shock - rho_r)
    s = (x - MIDDLE) / t.clamp(min=1e-300)
    c = (2 / (GAMMA + 1)) * (c_l - (GAMMA - 1) / 2 * s)
    inside = c / c_l
    fan = (
        rho_l * inside ** (2 / (GAMMA - 1)),
        2 / (GAMMA + 1) * (c_l + s),
        p_l * inside ** (2 * GAMMA / (GAMMA - 1)),
    )
    states = (
        (s <= -c_l, LEFT),
        (s <= u - c_fan, fan),
        (s <= u, (rho_l * (p / p_l) ** (1 / GAMMA), u, p)),
        (s <= speed, (rho_shock, u, p)),
    )
    found = [torch.full_like(x, value) for value in RIGHT]
    for holds, state in reversed(states):
        found = [torch.where(holds, each, old) for each, old in zip(state, found, strict=True)]
    return torch.stack(found)


def _evaluate(name: str) -> Callable[[At], Tensor]:
    return lambda at: solve(at.t, at.x)[NAMES.index(name)]


_EXACT: dict[str, Given] = {name: _evaluate(name) for name in NAMES}


class Sod(Equations):
    """ρ_t + (ρu)_x = 0, (ρu)_t + (ρu² + p)_x = 0, E_t + (u (E + p))_x = 0, E = p/0.4 + ρu²/2.

    (ρ, u, p) = (1, 0, 1) on the left of x = ½ and (0.125, 0, 0.1) on the right of it, at first and
    at the ends. A network has no jumps: where u falls, as it does across the shock, the residuals,
    which cannot be small there, are divided by 1 + |u_x| / 5.

    Source of the weight: L. Liu et al., Discontinuity computing using physics-informed neural
    networks, J. Sci. Comput. 98 (2024) 22.
    """

    geometry = Box(t=(0.0, 0.2), x=(0.0, 1.0))
    fields = NAMES
    conditions = (Initial(_EXACT, weight=10.0), Dirichlet(_EXACT))
    test_grid = (101, 500)

    def residuals(self, at: At, rho: Field, u: Field, p: Field) -> dict[str, Tensor]:
        mass = rho.t + rho.x * u + rho * u.x
        momentum = rho * (u.t + u * u.x) + u * mass + p.x
        heat = (p.t + u * p.x + p * u.x) / (GAMMA - 1) + p * u.x
        energy = heat + u * (rho * (u.t + u * u.x) + p.x) + u**2 / 2 * mass
        steepness = 1 + 0.1 * (torch.abs(u.x) - u.x)
        rows = {"mass": mass, "momentum": momentum, "energy": energy}
        return {name: row / steepness for name, row in rows.items()}

    def reference(self, at: At) -> dict[str, Tensor]:
        return dict(zip(NAMES, solve(at.t, at.x), strict=True))
