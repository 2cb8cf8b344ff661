"""The solvers: every file of this folder is a method, found by being there."""

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hpctrain.options import Options
from hpctrain.solvers.base import Setting, Solver


def _found() -> dict[str, type[Solver[Any]]]:
    """The solvers of this folder by the names under which a job file chooses them."""
    found: dict[str, type[Solver[Any]]] = {}
    for module in sorted(each.name for each in pkgutil.iter_modules(__path__)):
        for each in vars(importlib.import_module(f"{__name__}.{module}")).values():
            if isinstance(each, type) and issubclass(each, Solver):
                found |= dict.fromkeys(vars(each).get("names", ()), each)
    return found


SOLVERS = _found()

_OPTIONS: list[type[Options]] = list(dict.fromkeys(each.Options for each in SOLVERS.values()))

# The settings of `[solver]` in a job file: those of the solver with its name.
if TYPE_CHECKING:
    SolverOptions = Any
else:
    SolverOptions = Annotated[reduce(or_, _OPTIONS), Field(discriminator="name")]


def make_solver(setting: Setting, options: Any) -> Solver[Any]:
    """The solver that a job's options name; collective.

    Raises:
        InputError: the problem does not give what the solver needs.
    """
    return SOLVERS[options.name](setting, options)
