"""Undecomposed quasi-Newton training: L-BFGS with momentum, and self-scaled (SS) BFGS and Broyden."""

from typing import Literal

from pydantic import Field

from hpctrain.globalization.line_search import LineSearchOptions
from hpctrain.options import Options


class LBFGSOptions(Options):
    """Settings of L-BFGS."""

    name: Literal["lbfgs"] = "lbfgs"
    memory: int = Field(3, ge=1, description="secant pairs kept, m")
    momentum: float = Field(0.9, gt=0, le=1, description="weight of the new direction; 1 is none")
    line_search: LineSearchOptions = LineSearchOptions()


class SelfScaledOptions(Options):
    """Settings of SSBFGS and SSBroyden."""

    name: Literal["ssbfgs", "ssbroyden"] = "ssbroyden"
    line_search: LineSearchOptions = LineSearchOptions()
