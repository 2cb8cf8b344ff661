"""The solvers, and the settings by which a job file chooses one."""

from typing import Annotated

from pydantic import Field

from hpctrain.solvers.quasi_newton import LBFGSOptions, SelfScaledOptions
from hpctrain.solvers.spqn import SPQNOptions

SolverOptions = Annotated[
    LBFGSOptions | SelfScaledOptions | SPQNOptions, Field(discriminator="name")
]
