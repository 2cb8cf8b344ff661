"""Problems of equations: what a user states them with."""

from hpctrain.problems.equations.conditions import (
    Condition,
    Dirichlet,
    Initial,
    Integral,
    Neumann,
    Observations,
    Periodic,
    Robin,
)
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry import (
    Ball,
    Box,
    Disk,
    Ellipse,
    GeometryError,
    HalfSpace,
    Interval,
    Mesh,
    Polygon,
)
from hpctrain.problems.equations.terms import ProblemError
from hpctrain.problems.equations.unknowns import Unknown

__all__ = [
    "At",
    "Ball",
    "Box",
    "Condition",
    "Dirichlet",
    "Disk",
    "Ellipse",
    "Equations",
    "Field",
    "GeometryError",
    "HalfSpace",
    "Initial",
    "Integral",
    "Interval",
    "Mesh",
    "Neumann",
    "Observations",
    "Periodic",
    "Polygon",
    "ProblemError",
    "Robin",
    "Unknown",
]
