"""Strong-Wolfe line search by bracketing and safeguarded interpolation."""

from pydantic import Field

from hpctrain.options import Options


class LineSearchOptions(Options):
    """Constants of the strong Wolfe conditions."""

    c1: float = Field(1e-4, gt=0, lt=1, description="sufficient decrease (Armijo)")
    c2: float = Field(0.9, gt=0, lt=1, description="curvature")
    max_trials: int = Field(25, ge=1, description="evaluations before a search gives up")
