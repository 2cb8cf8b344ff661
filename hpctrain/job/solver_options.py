"""Checks the options of a solver that are given in Python, apart from a job."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hpctrain.errors import InputError
from hpctrain.job.plain import make_plain
from hpctrain.job.settings import explain_fault
from hpctrain.solvers.base import Solver


def check_options(
    method: type[Solver[Any]], name: str, given: Mapping[str, Any], place: str
) -> Any:
    """Returns the options as the solver takes them.

    Args:
        method: the class of the solver.
        name: by which a job would choose it.
        given: values by the keys of [solver] in a job.
        place: how messages name the solver.

    Raises:
        InputError: an option is not allowed.
    """
    try:
        return method.Options.model_validate({"name": name, **make_plain(given)})
    except ValidationError as error:
        fault = explain_fault(error, method.Options, "")
        raise InputError(f"{place}: {fault}") from error
