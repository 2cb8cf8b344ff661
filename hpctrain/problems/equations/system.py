"""The interface against which a partial differential equation is written, shipped or a user's own.

A point set is a tensor (d, N): one row per coordinate, so that `t, x = points` names them. The jet
of a function holds its value and its pure derivatives up to the order that each coordinate needs.
Everywhere in the project the components of a jet, the rows of a tensor (C, N), are in this order:

1. the value;
2. the first derivatives along every coordinate of order 1 or 2, in coordinate order;
3. the second derivatives along every coordinate of order 2, in coordinate order.

Coordinates (t, x) of orders (1, 2) give u, u_t, u_x, u_xx.
"""

import math
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import lru_cache
from keyword import iskeyword
from typing import Any, ClassVar, Self

from torch import Tensor

from hpctrain.errors import UserCodeError
from hpctrain.kernels.jets import JetShape, coordinates_of_order
from hpctrain.problems.equations.checks.jet_misuse import JetMisuse

MAX_COORDINATES = 4

# A named tuple of tensors (N,), made by `jet_fields`: its fields depend on the equation.
Jet = Any


class ProblemError(UserCodeError):
    """A problem is wrong as written: the message names what was given and what is allowed."""


class NotSmoothError(ProblemError):
    """A lifting or distance is not finite at a point, perhaps one that a single rank holds."""


class PDE(ABC):
    """A scalar equation residual(u) = 0 with conditions imposed exactly by u = G₀ + len·N.

    A subclass sets the class data and writes `lifting`, `distance` and `residual` with torch
    operations that act point by point. The class data are checked when an object is made.

        name         what reports call the equation
        coordinates  their names, which also name the derivatives: ("t", "x")
        domain       a pair (low, high) for each coordinate
        orders       the highest derivative, 0 to 2, that the residual needs along each coordinate
        test_grid    points along each coordinate on which the error is measured, ends included

    Raises:
        ProblemError: class data are missing or impossible.
    """

    name: ClassVar[str]
    coordinates: ClassVar[tuple[str, ...]]
    domain: ClassVar[tuple[tuple[float, float], ...]]
    orders: ClassVar[tuple[int, ...]]
    test_grid: ClassVar[tuple[int, ...]] = (200, 400)

    def __new__(cls, *_arguments: Any, **_options: Any) -> Self:
        # Here, not in __init__, so that a subclass with its own __init__ is checked too.
        _check_class_data(cls)
        return super().__new__(cls)

    @abstractmethod
    def lifting(self, points: Tensor) -> Tensor:
        """G₀ (N,), a smooth function that meets the initial and boundary conditions."""

    @abstractmethod
    def distance(self, points: Tensor) -> Tensor:
        """len (N,), smooth, zero where conditions hold (twice so for u_t) and positive inside."""

    @abstractmethod
    def residual(self, points: Tensor, u: Jet) -> Tensor:
        """The equation's left minus right side (N,).

        Args:
            points: coordinates (d, N).
            u: the solution's jet, its fields named after the coordinates: u.value, u.t, u.x, u.xx.
        """

    def reference(self, points: Tensor) -> Tensor | None:
        """The true solution (N,) at any points of the closed domain, or None if none is known."""
        return None

    def jet(self, components: Tensor | Sequence[Any]) -> Jet:
        """The rows of `components` (C, N), or its items, under their names."""
        return jet_fields(self.coordinates, self.orders)(*components)

    def named_point(self, point: Tensor) -> str:
        """ "t = 0.5, x = 1" for a point (d,)."""
        named = zip(self.coordinates, point.tolist(), strict=True)
        return ", ".join(f"{name} = {value:.6g}" for name, value in named)


@lru_cache
def jet_fields(coordinates: tuple[str, ...], orders: tuple[int, ...]) -> Callable[..., Jet]:
    """The named tuple type of a jet; its `_fields` are the component names in their order."""
    first = [coordinates[i] for i in coordinates_of_order(orders, 1)]
    second = [coordinates[i] * 2 for i in coordinates_of_order(orders, 2)]
    bases = (JetMisuse, namedtuple("Jet", ["value", *first, *second]))
    return type("Jet", bases, {"__slots__": (), "_coordinates": coordinates, "_orders": orders})


def jet_shape(orders: tuple[int, ...]) -> JetShape:
    """The components of a jet in the order above."""
    return JetShape.closed(len(orders), [(i,) * order for i, order in enumerate(orders)])


def _check_class_data(pde: type[PDE]) -> None:
    _require(pde, "name", _is_name, "a non-empty string")
    _require(
        pde,
        "coordinates",
        _are_coordinates,
        f"a tuple of 1 to {MAX_COORDINATES} Python names whose derivatives "
        "(`x`, `xx`) differ from each other and from `value`",
    )
    d = len(pde.coordinates)
    _require(
        pde,
        "domain",
        _each(_is_interval, d),
        f"a tuple of {d} pairs (low, high) of finite numbers, low < high",
    )
    _require(pde, "orders", _each(_is_order, d), f"a tuple of {d} integers, 0, 1 or 2")
    _require(pde, "test_grid", _each(_is_count, d), f"a tuple of {d} integers, 2 or more")


def _require(pde: type[PDE], field: str, holds: Callable[[Any], bool], allowed: str) -> None:
    if not hasattr(pde, field):
        raise ProblemError(f"{pde.__name__}.{field} is missing: it must be {allowed}")
    value = getattr(pde, field)
    if not holds(value):
        raise ProblemError(f"{pde.__name__}.{field} is {value!r}: it must be {allowed}")


def _each(holds: Callable[[Any], bool], count: int) -> Callable[[Any], bool]:
    """Tests whether something is a tuple of `count` items that all pass `holds`."""
    return lambda value: (
        isinstance(value, tuple) and len(value) == count and all(holds(item) for item in value)
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_coordinates(value: Any) -> bool:
    if not (isinstance(value, tuple) and 1 <= len(value) <= MAX_COORDINATES):
        return False
    if not all(_is_field_name(item) for item in value):
        return False
    fields = ["value", *value, *(item * 2 for item in value)]
    return len(set(fields)) == len(fields)


def _is_field_name(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.isidentifier()
        and not value.startswith("_")
        and not iskeyword(value)
    )


def _is_interval(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(end, int | float) and math.isfinite(end) for end in value)
        and value[0] < value[1]
    )


def _is_order(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 2
