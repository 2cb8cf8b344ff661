"""Conditions on a part of the boundary, or inside: values, slopes, and any expression."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from dataclasses import field as settled
from typing import Any, ClassVar

from hpctrain.problems.equations.conditions.base import (
    AnyCondition,
    Frame,
    Given,
    Where,
    check_field,
    check_mapping,
    derivative_of,
    evaluate,
    function_in,
    points_on,
    select_pieces,
)
from hpctrain.problems.equations.fields import TIME, At, Field
from hpctrain.problems.equations.geometry.sampling import interior_points
from hpctrain.problems.equations.terms import ProblemError, Term, by_name, call_by_name

INSIDE = "inside"


class OnBoundary(AnyCondition):
    """A condition with residuals at points of a part of the boundary."""

    on: Where

    @abstractmethod
    def zero(
        self, at: At, fields: Mapping[str, Field], unknowns: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Values (N,) that are to be zero, by name."""

    def check(self, frame: Frame, place: str) -> None:
        if self.on != INSIDE:
            select_pieces(self.on, frame, place)

    def term(self, frame: Frame, name: str, points: int) -> Term:
        count = self.points or points
        if self.on == INSIDE:
            return Term(name, interior_points(frame.region, count), self.zero, self.weight)
        x, normals = points_on(self.on, frame, f"{frame.title}: {name}", count)
        return Term(name, x, self.zero, self.weight, normals)


@dataclass(frozen=True)
class Dirichlet(OnBoundary):
    """Values on a part of the boundary: Dirichlet({"u": inflow, "v": 0.0}, on="x.low").

    Attributes:
        values: a number or a function of `at` for each field.
        on: a name of boundary pieces, a function of `at`, or fixed coordinates {"x": 0, "y": 0};
            by default all of the boundary in space.
        exact: hold for every θ by the form of the solution, in place of a term of the loss.
        weight: w of its term w mean_j Σ_i r_ij².
        points: how many; by default the job's `problem.condition_points`.
        name: in messages and results.
    """

    kind: ClassVar[str] = "Dirichlet"
    values: Mapping[str, Given]
    _: KW_ONLY
    on: Where = None
    exact: bool = False
    weight: float = 1.0
    points: int | None = None
    name: str = ""

    @property
    def is_exact(self) -> bool:
        return self.exact

    @property
    def written(self) -> Any:
        return function_in(self.values.values(), self)

    def check(self, frame: Frame, place: str) -> None:
        check_mapping(self.values, frame, place, derivatives=False)
        super().check(frame, place)

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        return _differences(self.values, at, fields)


@dataclass(frozen=True)
class Initial(OnBoundary):
    """Values at the first time, also of derivatives: Initial({"u": f, "u.t": 0.0}).

    Attributes:
        values: for each field, or its derivative along time.
        exact, weight, points, name: see `Dirichlet`.
    """

    kind: ClassVar[str] = "Initial"
    values: Mapping[str, Given]
    _: KW_ONLY
    exact: bool = False
    weight: float = 1.0
    points: int | None = None
    name: str = ""
    on: Where = settled(default=f"{TIME}.low", init=False)

    @property
    def is_exact(self) -> bool:
        return self.exact

    @property
    def written(self) -> Any:
        return function_in(self.values.values(), self)

    def check(self, frame: Frame, place: str) -> None:
        if TIME not in frame.axes.coordinates:
            known = ", ".join(frame.axes.coordinates)
            raise ProblemError(f'{place} needs a coordinate named "{TIME}": there are {known}')
        check_mapping(self.values, frame, place, derivatives=True)
        super().check(frame, place)

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        return _differences(self.values, at, fields)


def _differences(values: Mapping[str, Given], at: At, fields: Any) -> dict[str, Any]:
    return {
        name: derivative_of(fields, name) - evaluate(given, at, name)
        for name, given in values.items()
    }


@dataclass(frozen=True)
class Neumann(OnBoundary):
    """The derivative along the outward normal: Neumann({"u": 0.0}, on="x.high").

    Attributes:
        values: for each field.
        on, weight, points, name: see `Dirichlet`.
    """

    kind: ClassVar[str] = "Neumann"
    values: Mapping[str, Given]
    _: KW_ONLY
    on: Where = None
    weight: float = 1.0
    points: int | None = None
    name: str = ""

    @property
    def written(self) -> Any:
        return function_in(self.values.values(), self)

    def check(self, frame: Frame, place: str) -> None:
        check_mapping(self.values, frame, place, derivatives=False)
        super().check(frame, place)

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        return {
            f"{name}.normal": fields[name].normal - evaluate(given, at, name)
            for name, given in self.values.items()
        }


@dataclass(frozen=True)
class Robin(OnBoundary):
    """a u + b ∂u/∂n = g on a part of the boundary: Robin("u", a=1.0, b=0.5, equals=g).

    Attributes:
        field: its name.
        a, b, equals: numbers or functions of `at`; g is `equals`.
        on, weight, points, name: see `Dirichlet`.
    """

    kind: ClassVar[str] = "Robin"
    field: str
    _: KW_ONLY
    a: Given = 1.0
    b: Given = 1.0
    equals: Given = 0.0
    on: Where = None
    weight: float = 1.0
    points: int | None = None
    name: str = ""

    @property
    def written(self) -> Any:
        return function_in((self.a, self.b, self.equals), self)

    def check(self, frame: Frame, place: str) -> None:
        check_field(self.field, frame, place, derivatives=False)
        super().check(frame, place)

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        names = ("a", "b", "equals")
        a, b, g = (evaluate(getattr(self, name), at, name) for name in names)
        u = fields[self.field]
        return {self.field: a * u.value + b * u.normal - g}


@dataclass(frozen=True)
class Condition(OnBoundary):
    """Any expression that is zero at points: Condition(lambda at, u: u.x - u**2, on="x.low").

    Attributes:
        expression: takes `at`, and fields and unknowns by their names; gives (N,), or several.
        on: as for `Dirichlet`, or "inside".
        weight, points, name: see `Dirichlet`.
    """

    kind: ClassVar[str] = "Condition"
    expression: Callable[..., Any]
    _: KW_ONLY
    on: Where = None
    weight: float = 1.0
    points: int | None = None
    name: str = ""

    @property
    def written(self) -> Any:
        return function_in([self.expression], self)

    def check(self, frame: Frame, place: str) -> None:
        if not callable(self.expression):
            raise ProblemError(
                f"{place} is given {self.expression!r}: it must be a function of at and of fields"
            )
        super().check(frame, place)

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        name = self.name or "condition"
        returned = call_by_name(self.expression, at, fields, unknowns, name)
        return by_name(returned, name)
