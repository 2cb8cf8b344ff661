"""The solvers, and the settings by which a job file chooses one."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from hpctrain.solvers.apts_data import APTSData, APTSDataOptions
from hpctrain.solvers.apts_weights import APTSWeights, APTSWeightsOptions
from hpctrain.solvers.astrom import ASTROM, ASTROMOptions
from hpctrain.solvers.base import Setting, Solver
from hpctrain.solvers.first_order import SGD, Adam, AdamOptions, SGDOptions
from hpctrain.solvers.gauss_newton import GaussNewton, GaussNewtonOptions
from hpctrain.solvers.mlvr import MLVR, MLVROptions
from hpctrain.solvers.mlvr_krylov import MLVRKrylov, MLVRKrylovOptions
from hpctrain.solvers.newton_krylov import NewtonKrylovOptions, NewtonKrylovSchwarz
from hpctrain.solvers.quasi_newton import LBFGS, LBFGSOptions, SelfScaled, SelfScaledOptions
from hpctrain.solvers.rmtr import RMTR, RMTROptions
from hpctrain.solvers.spqn import ASPQN, MSPQN, SPQNOptions
from hpctrain.solvers.torch_lbfgs import TorchLBFGS, TorchLBFGSOptions
from hpctrain.solvers.trust_region import TrustRegion, TrustRegionSolverOptions
from hpctrain.solvers.variance_reduction import (
    SARAH,
    SSN,
    SVRG,
    Newton,
    NewtonOptions,
    SSNOptions,
    SVRGOptions,
)

SolverOptions = Annotated[
    LBFGSOptions
    | SelfScaledOptions
    | SPQNOptions
    | AdamOptions
    | SGDOptions
    | TorchLBFGSOptions
    | GaussNewtonOptions
    | NewtonKrylovOptions
    | TrustRegionSolverOptions
    | APTSDataOptions
    | APTSWeightsOptions
    | MLVROptions
    | MLVRKrylovOptions
    | ASTROMOptions
    | RMTROptions
    | SVRGOptions
    | SSNOptions
    | NewtonOptions,
    Field(discriminator="name"),
]

_SOLVERS: dict[str, Callable[[Setting, Any], Solver[Any]]] = {
    "lbfgs": LBFGS,
    "ssbfgs": SelfScaled,
    "ssbroyden": SelfScaled,
    "aspqn": ASPQN,
    "mspqn": MSPQN,
    "gauss-newton": GaussNewton,
    "newton-krylov-schwarz": NewtonKrylovSchwarz,
    "adam": Adam,
    "sgd": SGD,
    "torch-lbfgs": TorchLBFGS,
    "trust-region": TrustRegion,
    "apts-data": APTSData,
    "apts-weights": APTSWeights,
    "mlvr": MLVR,
    "mlvr-krylov": MLVRKrylov,
    "astrom": ASTROM,
    "rmtr": RMTR,
    "svrg": SVRG,
    "sarah": SARAH,
    "ssn": SSN,
    "newton": Newton,
}


def make_solver(setting: Setting, options: Any) -> Solver[Any]:
    """The solver that a job's options name."""
    return _SOLVERS[options.name](setting, options)
