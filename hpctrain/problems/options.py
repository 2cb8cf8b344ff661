"""The settings by which a job file chooses its problem: `[problem]`, a group by its `name`.

Every folder beside this file with a module `options` is a family of problems, found by being there.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator

from hpctrain import problems
from hpctrain.options import Choice
from hpctrain.problems.base import FamilyOptions
from hpctrain.problems.equations.options import PinnOptions


def _find_families() -> Iterator[type[FamilyOptions]]:
    found = pkgutil.iter_modules(problems.__path__)
    for folder in sorted(each.name for each in found if each.ispkg):
        name = f"{problems.__name__}.{folder}.options"
        if find_spec(name):
            for each in vars(importlib.import_module(name)).values():
                is_family = isinstance(each, type) and issubclass(each, FamilyOptions)
                if is_family and "names" in vars(each):
                    yield each


PROBLEMS = Choice(
    key="name",
    groups={name: family for family in _find_families() for name in family.names},
    own=PinnOptions,
    example='or a class of your own as "my_pde.py:Heat"',
)

if TYPE_CHECKING:
    ProblemOptions = Any
else:
    ProblemOptions = Annotated[PROBLEMS.union, Discriminator(PROBLEMS.find_tag)]
