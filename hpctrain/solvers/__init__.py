"""The solvers: every file of this folder is a method, found by being there."""

from typing import Any

from pydantic import ConfigDict, Field

from hpctrain.options import Choice, ClassName, Options, find_classes
from hpctrain.solvers.base import Setting, Solver


class OwnSolverOptions(Options):
    """A solver in a Python file of the user's own; its class checks the other settings."""

    model_config = ConfigDict(extra="allow")

    name: ClassName = Field(description='such as "my_method.py:MyMethod"')


def find_solvers() -> dict[str, type[Solver[Any]]]:
    """The solvers of this folder by the names under which a job file chooses them."""
    found = find_classes(__name__, __path__, Solver)  # type: ignore[type-abstract]
    return {name: each for each in found for name in vars(each).get("names", ())}


SOLVERS = find_solvers()

CHOICE = Choice(
    key="name",
    groups={name: each.Options for name, each in SOLVERS.items()},
    own=OwnSolverOptions,
    example='or a class of your own as "my_method.py:MyMethod"',
)


def make_solver(setting: Setting, options: Any) -> Solver[Any]:
    """The solver that a job's options name; collective.

    Raises:
        InputError: the problem does not give what the solver needs.
    """
    return SOLVERS[options.name](setting, options)
