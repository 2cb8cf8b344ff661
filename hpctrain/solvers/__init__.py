"""The solvers, and the settings by which a job file chooses one."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from hpctrain.solvers.base import Setting, Solver
from hpctrain.solvers.quasi_newton import LBFGS, LBFGSOptions, SelfScaled, SelfScaledOptions
from hpctrain.solvers.spqn import ASPQN, MSPQN, SPQNOptions

SolverOptions = Annotated[
    LBFGSOptions | SelfScaledOptions | SPQNOptions, Field(discriminator="name")
]

_SOLVERS: dict[str, Callable[[Setting, Any], Solver[Any]]] = {
    "lbfgs": LBFGS,
    "ssbfgs": SelfScaled,
    "ssbroyden": SelfScaled,
    "aspqn": ASPQN,
    "mspqn": MSPQN,
}


def make_solver(setting: Setting, options: Any) -> Solver[Any]:
    """The solver that a job's options name."""
    return _SOLVERS[options.name](setting, options)
