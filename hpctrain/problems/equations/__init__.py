"""Physics-informed networks: equations, their points, and networks that meet their conditions."""

from hpctrain.problems.equations.system import PDE, Jet, NotSmoothError, ProblemError

__all__ = ["PDE", "Jet", "NotSmoothError", "ProblemError"]
