"""Schwarz-preconditioned quasi-Newton: ASPQN (additive) and MSPQN (multiplicative)."""

from typing import Literal

from pydantic import Field

from hpctrain.globalization.line_search import LineSearchOptions
from hpctrain.options import Options


class SPQNOptions(Options):
    """Settings of ASPQN and MSPQN."""

    name: Literal["aspqn", "mspqn"] = "aspqn"
    blocks: int = Field(8, ge=1, description="S, groups of consecutive layers")
    local_steps: int = Field(50, ge=1, description="k_s, L-BFGS iterations of a local solve")
    memory: int = Field(3, ge=1, description="secant pairs kept, globally and locally")
    keep_local_memory: bool = Field(False, description="keep a block's pairs between local phases")
    momentum: float = Field(0.9, gt=0, le=1, description="weight of the new direction; 1 is none")
    line_search: LineSearchOptions = LineSearchOptions()
