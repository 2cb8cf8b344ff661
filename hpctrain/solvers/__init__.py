"""The solvers: every file of this folder is a method, found by being there."""

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from hpctrain.options import Choice, Options
from hpctrain.solvers.base import Setting, Solver


class OwnSolverOptions(Options):
    """A solver in a Python file of the user's own; its class checks the other settings."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description='such as "my_method.py:MyMethod"')


def _found() -> dict[str, type[Solver[Any]]]:
    """The solvers of this folder by the names under which a job file chooses them."""
    found: dict[str, type[Solver[Any]]] = {}
    for module in sorted(each.name for each in pkgutil.iter_modules(__path__)):
        for each in vars(importlib.import_module(f"{__name__}.{module}")).values():
            if isinstance(each, type) and issubclass(each, Solver):
                found |= dict.fromkeys(vars(each).get("names", ()), each)
    return found


SOLVERS = _found()

CHOICE = Choice(
    key="name",
    groups={name: each.Options for name, each in SOLVERS.items()},
    own=OwnSolverOptions,
    example='or a class of your own as "my_method.py:MyMethod"',
)

# The settings of `[solver]` in a job file: those of the solver with its name.
if TYPE_CHECKING:
    SolverOptions = Any
else:
    _tagged = (Annotated[group, Tag(tag)] for tag, group in CHOICE.tags.items())
    SolverOptions = Annotated[reduce(or_, _tagged), Discriminator(CHOICE.tag)]


def make_solver(setting: Setting, options: Any) -> Solver[Any]:
    """The solver that a job's options name; collective.

    Raises:
        InputError: the problem does not give what the solver needs.
    """
    return SOLVERS[options.name](setting, options)
