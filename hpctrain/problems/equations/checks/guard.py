"""Calls functions of the user's own, and tells in one line, with the place, what goes wrong."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

from hpctrain.errors import HpctrainError
from hpctrain.kernels.program import NotTraceableError
from hpctrain.problems.equations.terms import ProblemError, Term
from hpctrain.user_code.faults import explain, place_of

Called = TypeVar("Called")


def guard(
    function: Callable[..., Called], title: str, written: Callable[..., Any] | None = None
) -> Callable[..., Called]:
    """The same function, which raises nothing but `ProblemError` where it fails.

    Args:
        function: calls what the user wrote.
        title: what messages call it, as "Heat.residuals".
        written: what the user wrote, for its place; by default the function.
    """
    own = written or function

    @wraps(own, updated=())
    def call(*arguments: Any, **named: Any) -> Called:
        try:
            return function(*arguments, **named)
        except ProblemError as error:
            if title in str(error):
                raise
            raise ProblemError(f"{title}: {error}") from error
        except (HpctrainError, NotTraceableError):  # of another guarded function; for the tracer
            raise
        except (Exception, SystemExit) as error:
            raise ProblemError(f"{title} fails: {explain(error, place_of(own))}") from error

    return call


def guard_term(term: Term, title: str, written: Callable[..., Any]) -> Term:
    """The term with what messages call it; its function raises nothing but `ProblemError`."""
    zero = guard(term.zero, title, written)
    return replace(term, zero=zero, title=title, place=place_of(written), written=written)


def locate(title: str, written: Callable[..., Any]) -> str:
    """ "my_pde.py:10: Heat.residuals", a function of the user's with its place."""
    return f"{place_of(written)}: {title}"
