"""A solver in a Python file of the user's own, and the job's settings of it, checked."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hpctrain.errors import JobError
from hpctrain.job.settings import explain_fault
from hpctrain.options import Options
from hpctrain.solvers import OwnSolverOptions
from hpctrain.solvers.base import Solver
from hpctrain.user_code.own_class import find_class


@dataclass(frozen=True)
class OwnSolver:
    """The class, and its settings."""

    solver: type[Solver[Any]]
    options: Options


def find_own_solver(options: OwnSolverOptions, place: str) -> OwnSolver:
    """The class that a job names, with the rest of `[solver]` as its `Options` take it.

    Args:
        place: of the settings in a job file, such as "solver".

    Raises:
        InputError: there is no such class, or a setting is not one of its.
    """
    found = find_class(f"{place}.name", options.name, Solver)  # type: ignore[type-abstract]
    try:
        checked = found.Options.model_validate(options.model_dump(exclude={"stop"}))
    except ValidationError as error:
        raise JobError(explain_fault(error, found.Options, place)) from error
    return OwnSolver(found, checked)
