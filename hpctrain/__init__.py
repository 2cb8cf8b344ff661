"""Trains neural networks by domain decomposition and second-order methods, alone or under MPI.

`train` a job, `resume` or `load` a run, and what a problem is stated with; `hpctrain.torch` has
solvers as optimisers. A name is imported when it is asked for first, so that `import hpctrain` is
quick and needs no MPI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpctrain.errors import InputError, RunError
    from hpctrain.job.settings import Job
    from hpctrain.problems.equations import (
        At,
        Ball,
        Box,
        Condition,
        Dirichlet,
        Disk,
        Ellipse,
        Equations,
        Field,
        HalfSpace,
        Initial,
        Integral,
        Interval,
        Mesh,
        Neumann,
        Observations,
        Periodic,
        Polygon,
        Robin,
        Unknown,
    )
    from hpctrain.results.run import Result, load
    from hpctrain.run.pieces import make_objective, make_problem, make_solver
    from hpctrain.run.python import resume, train

_HOMES = {
    "InputError": "errors",
    "RunError": "errors",
    "Job": "job.settings",
    "Result": "results.run",
    "load": "results.run",
    "make_objective": "run.pieces",
    "make_problem": "run.pieces",
    "make_solver": "run.pieces",
    "resume": "run.python",
    "train": "run.python",
}

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
    "HalfSpace",
    "Initial",
    "InputError",
    "Integral",
    "Interval",
    "Job",
    "Mesh",
    "Neumann",
    "Observations",
    "Periodic",
    "Polygon",
    "Result",
    "Robin",
    "RunError",
    "Unknown",
    "load",
    "make_objective",
    "make_problem",
    "make_solver",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "torch":
        return import_module(f"{__name__}.torch")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES.get(name, 'problems.equations')}")
    globals()[name] = value = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "torch"})
