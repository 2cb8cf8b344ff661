"""The loss as a sum of terms: each has points, residuals there, and a weight.

L(θ) = Σ_t w_t (1/N_t) Σ_j ω_j Σ_i r_ij(θ)²
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpctrain.errors import UserCodeError
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.given import is_number

# Takes `at`, the fields and the unknowns by name; gives values (N,) by the names of the residuals.
Zero = Callable[[At, Mapping[str, Field], Mapping[str, Any]], dict[str, Any]]


# The name of the equation's own term, the first one.
EQUATION = "equation"


class ProblemError(UserCodeError):
    """A problem is wrong as written: the message names what was given and what is allowed."""


@dataclass(frozen=True)
class Term:
    """What is to be zero at points.

    Attributes:
        name: of the term, for messages and results.
        points: (d, N g), float64; sample j of N has the points g j … g j + g - 1.
        zero: the residuals; for groups of g > 1 points all values are (g, N), and they give (N,).
        weight: w.
        normals: outward ones (d, N g), at a boundary.
        group: g.
        given: numbers beside the points (k, N g), such as measurements, for `at.given`.
        sample_weights: ω (N,), float64; None where all are 1.
        title, place: what messages call it, and where it is written.
        written: the function of the user's that makes it.
    """

    name: str
    points: Tensor
    zero: Zero
    weight: float = 1.0
    normals: Tensor | None = None
    group: int = 1
    given: Tensor | None = None
    sample_weights: Tensor | None = None
    title: str = ""
    place: str = ""
    written: Any = None

    @property
    def samples(self) -> int:
        """N."""
        return self.points.shape[1] // self.group


def call_by_name(
    function: Callable[..., Any],
    at: At,
    fields: Mapping[str, Field],
    unknowns: Mapping[str, Any],
    place: str,
) -> Any:
    """function(at, u, nu): what its parameters are named after.

    Raises:
        ProblemError: it names something that does not exist.
    """
    given = {**fields, **unknowns}
    arguments = []
    for name in list_arguments(function):
        if name not in given:
            raise ProblemError(
                f"{place} asks for {name}: there is at, then {', '.join(given) or 'nothing'}"
            )
        arguments.append(given[name])
    return function(at, *arguments)


def list_arguments(function: Callable[..., Any]) -> list[str]:
    """The names of what a function takes behind `at`."""
    return [name for name, p in inspect.signature(function).parameters.items() if _is_named(p)][1:]


def _is_named(parameter: inspect.Parameter) -> bool:
    has_default = parameter.default is not inspect.Parameter.empty
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return parameter.kind in kinds and not has_default


def name_values(returned: Any, default: str) -> dict[str, Any]:
    """Residuals under their names, of one value, a tuple or list of them, or a mapping.

    Raises:
        ProblemError: there are none.
    """
    if isinstance(returned, Mapping | tuple | list) and not returned:
        raise ProblemError(f"returned {returned!r}: it must be a value for each point, or several")
    if isinstance(returned, Mapping):
        return {str(name): _value(each) for name, each in returned.items()}
    if isinstance(returned, tuple | list):
        return {f"{default}.{i}": _value(each) for i, each in enumerate(returned, start=1)}
    return {default: _value(returned)}


def _value(given: Any) -> Any:
    return given.value if isinstance(given, Field) else given


def check_values(given: Any, like: Tensor, place: str) -> Tensor:
    """A number, or values (N,) beside `like` (N,), as values.

    Raises:
        ProblemError: it is neither; the message starts with `place`.
    """
    if is_number(given):
        return torch.full_like(like, float(given))
    if not isinstance(given, Tensor):
        returned = "None" if given is None else f"a value of type {type(given).__name__}"
    elif given.shape != like.shape:
        returned = f"a tensor of shape {tuple(given.shape)}"
    elif not given.is_floating_point():
        returned = f"values of type {given.dtype}"
    else:
        return given
    raise ProblemError(
        f"{place} is {returned}: it must be a number or a tensor of shape {tuple(like.shape)}, one"
        " floating-point number a point"
    )
