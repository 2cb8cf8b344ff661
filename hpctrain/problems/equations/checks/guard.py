"""Calls an equation's functions, and tells in one line, with the place, what goes wrong in them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor

from hpctrain.errors import HpctrainError
from hpctrain.kernels.pointwise import Symbol
from hpctrain.kernels.program import NotTraceableError
from hpctrain.problems.equations.system import PDE, ProblemError
from hpctrain.user_code.faults import explain, place_of

FUNCTIONS = ("lifting", "distance", "residual", "reference")


def guard(pde: PDE) -> PDE:
    """The same object, whose four functions now raise nothing but `ProblemError`.

    They do so where the user's function raises, and where its result is not a tensor (N,) of
    floating-point numbers; `reference` may return None.
    """
    for name in FUNCTIONS:
        # Also where the class is a frozen dataclass.
        object.__setattr__(pde, name, _guarded(pde, name))
    return pde


def _guarded(pde: PDE, name: str) -> Callable[..., Any]:
    function = getattr(pde, name)
    title = f"{type(pde).__name__}.{name}"

    @wraps(function, updated=())
    def call(points: Tensor, *others: Any, **named: Any) -> Any:
        try:
            value = function(points, *others, **named)
        except (HpctrainError, NotTraceableError):  # of another guarded function; for the tracer
            raise
        except (Exception, SystemExit) as error:
            raise ProblemError(f"{title} fails: {explain(error, place_of(function))}") from error
        if not ((value is None and name == "reference") or isinstance(value, Symbol)):
            _check_values(call, value, points.shape[1])
        return value

    call.__qualname__ = title
    return call


def named_place(function: Callable[..., Any]) -> str:
    """ "my_pde.py:10: Heat.lifting", a guarded function with the place where it is defined."""
    return f"{place_of(function)}: {function.__qualname__}"


def _check_values(function: Callable[..., Any], value: Any, count: int) -> None:
    if not isinstance(value, Tensor):
        returned = "None" if value is None else f"a value of type {type(value).__name__}"
    elif value.shape != (count,):
        returned = f"a tensor of shape {tuple(value.shape)}"
    elif not value.is_floating_point():
        returned = f"values of type {value.dtype}"
    else:
        return
    raise ProblemError(
        f"{named_place(function)} returned {returned}: it must be a tensor of shape ({count},),"
        " one floating-point number a point"
    )
