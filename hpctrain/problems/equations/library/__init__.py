"""The equations that are shipped: every file of this folder is one, found by being there.

How their reference solutions are computed is in `methods`, where several share it.
"""

import importlib
import pkgutil

from hpctrain.problems.equations.equations import Equations


def _find_equations() -> dict[str, type[Equations]]:
    """The equations of this folder by the names under which a job file chooses them."""
    found: dict[str, type[Equations]] = {}
    for module in sorted(each.name for each in pkgutil.iter_modules(__path__)):
        name = f"{__name__}.{module}"
        for each in vars(importlib.import_module(name)).values():
            if isinstance(each, type) and issubclass(each, Equations) and each.__module__ == name:
                found[each.name] = each
    return found


EQUATIONS = _find_equations()
