"""The solvers, and the settings by which a job file chooses one."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from hpctrain.solvers.base import Setting, Solver
from hpctrain.solvers.first_order import SGD, Adam, AdamOptions, SGDOptions
from hpctrain.solvers.gauss_newton import GaussNewton, GaussNewtonOptions
from hpctrain.solvers.quasi_newton import LBFGS, LBFGSOptions, SelfScaled, SelfScaledOptions
from hpctrain.solvers.spqn import ASPQN, MSPQN, SPQNOptions
from hpctrain.solvers.torch_lbfgs import TorchLBFGS, TorchLBFGSOptions
from hpctrain.solvers.trust_region import TrustRegion, TrustRegionSolverOptions

SolverOptions = Annotated[
    LBFGSOptions
    | SelfScaledOptions
    | SPQNOptions
    | AdamOptions
    | SGDOptions
    | TorchLBFGSOptions
    | GaussNewtonOptions
    | TrustRegionSolverOptions,
    Field(discriminator="name"),
]

_SOLVERS: dict[str, Callable[[Setting, Any], Solver[Any]]] = {
    "lbfgs": LBFGS,
    "ssbfgs": SelfScaled,
    "ssbroyden": SelfScaled,
    "aspqn": ASPQN,
    "mspqn": MSPQN,
    "gauss-newton": GaussNewton,
    "adam": Adam,
    "sgd": SGD,
    "torch-lbfgs": TorchLBFGS,
    "trust-region": TrustRegion,
}


def make_solver(setting: Setting, options: Any) -> Solver[Any]:
    """The solver that a job's options name."""
    return _SOLVERS[options.name](setting, options)
