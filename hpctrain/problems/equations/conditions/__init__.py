"""What a solution must meet beside its equation: on the boundary, in sums, and in measurements."""

from hpctrain.problems.equations.conditions.base import AnyCondition
from hpctrain.problems.equations.conditions.boundary import (
    Condition,
    Dirichlet,
    Initial,
    Neumann,
    Robin,
)
from hpctrain.problems.equations.conditions.integral import Integral
from hpctrain.problems.equations.conditions.observations import Observations
from hpctrain.problems.equations.conditions.periodic import Periodic

__all__ = [
    "AnyCondition",
    "Condition",
    "Dirichlet",
    "Initial",
    "Integral",
    "Neumann",
    "Observations",
    "Periodic",
    "Robin",
]
