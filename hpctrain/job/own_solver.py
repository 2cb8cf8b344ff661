"""Finds a solver in a user's Python file, and checks the job's settings of it."""

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
    """A solver's class and its settings."""

    solver: type[Solver[Any]]
    options: Options


def find_own_solver(options: OwnSolverOptions, place: str) -> OwnSolver:
    """Finds the class that a job names, and checks its settings by its `Options`.

    Args:
        options: the table of the job file.
        place: its name there, such as "solver".

    Raises:
        InputError: there is no such class, or a setting is not one of its.
    """
    found = find_class(f"{place}.name", options.name, Solver)  # type: ignore[type-abstract]
    try:
        checked = found.Options.model_validate(options.model_dump(exclude={"stop"}))
    except ValidationError as error:
        raise JobError(explain_fault(error, found.Options, place)) from error
    return OwnSolver(found, checked)
