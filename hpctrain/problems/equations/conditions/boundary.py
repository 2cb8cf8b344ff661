"""Conditions on a part of the boundary, or inside: values, slopes, and any expression."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hpctrain.problems.equations.conditions.base import (
    AnyCondition,
    Frame,
    Given,
    Where,
    check_field,
    check_mapping,
    evaluate,
    find_function,
    place_points_on,
    read_derivative,
    select_pieces,
)
from hpctrain.problems.equations.fields import TIME, At, Field
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.terms import ProblemError, Term, call_by_name, name_values

INSIDE, START = "inside", f"{TIME}.low"


@dataclass(frozen=True, kw_only=True)
class OnBoundary(AnyCondition):
    """A condition with residuals at points of a part of the boundary.

    Attributes:
        on: a name of boundary pieces, a function of `at`, or fixed coordinates {"x": 0, "y": 0};
            by default all of the boundary in space.
    """

    on: Where = None

    @abstractmethod
    def zero(
        self, at: At, fields: Mapping[str, Field], unknowns: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Values (N,) that are to be zero, by name."""

    def check(self, frame: Frame, place: str) -> None:
        if self.on != INSIDE:
            select_pieces(self.on, frame, place)

    def make_term(self, frame: Frame, name: str, points: int) -> Term:
        count = self.count_points(points)
        if self.on == INSIDE:
            inside = place_interior_points(frame.region, count, cube=frame.cube)
            return Term(name, inside, self.zero, float(self.weight))
        x, normals = place_points_on(self.on, frame, f"{frame.title}: {name}", count)
        return Term(name, x, self.zero, float(self.weight), normals)


@dataclass(frozen=True)
class OfValues(OnBoundary):
    """A condition that gives numbers or functions of `at` to fields.

    Attributes:
        values: by the names of the fields.
    """

    values: Mapping[str, Given]

    @property
    def written(self) -> Any:
        return find_function(self.values.values(), self)

    def check(self, frame: Frame, place: str) -> None:
        check_mapping(self.values, frame, place, derivatives=self.on == START)
        super().check(frame, place)


@dataclass(frozen=True)
class Exactable(OfValues):
    """Values that can hold for every θ.

    Attributes:
        exact: they do so by the form of the solution, in place of a term of the loss.
    """

    exact: bool = field(default=False, kw_only=True)

    @property
    def is_exact(self) -> bool:
        return self.exact

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        return {
            name: read_derivative(fields, name) - evaluate(given, at, name)
            for name, given in self.values.items()
        }


@dataclass(frozen=True)
class Dirichlet(Exactable):
    """Values on a part of the boundary: Dirichlet({"u": inflow, "v": 0.0}, on="x.low")."""

    kind: ClassVar[str] = "Dirichlet"


@dataclass(frozen=True)
class Initial(Exactable):
    """Values at the first time, also of derivatives: Initial({"u": f, "u.t": 0.0})."""

    kind: ClassVar[str] = "Initial"
    on: Where = field(default=START, init=False)

    def check(self, frame: Frame, place: str) -> None:
        if TIME not in frame.axes.coordinates:
            known = ", ".join(frame.axes.coordinates)
            raise ProblemError(f'{place} needs a coordinate named "{TIME}": there are {known}')
        super().check(frame, place)


@dataclass(frozen=True)
class Neumann(OfValues):
    """The derivative along the outward normal: Neumann({"u": 0.0}, on="x.high").

    Attributes:
        exact: on sides of a box it holds for every θ, by the inputs of the network and the form of
            the solution, in place of a term of the loss.
    """

    kind: ClassVar[str] = "Neumann"
    exact: bool = field(default=False, kw_only=True)

    @property
    def is_exact(self) -> bool:
        return self.exact

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        return {
            f"{name}.normal": fields[name].normal - evaluate(given, at, name)
            for name, given in self.values.items()
        }


@dataclass(frozen=True)
class Robin(OnBoundary):
    """a u + b ∂u/∂n = g on a part of the boundary: Robin("u", a=1.0, b=0.5, equals=g).

    Attributes:
        of: the field.
        a, b, equals: numbers or functions of `at`; g is `equals`.
        on, weight, points, name: see `OnBoundary`.
    """

    kind: ClassVar[str] = "Robin"
    of: str
    a: Given = field(default=1.0, kw_only=True)
    b: Given = field(default=1.0, kw_only=True)
    equals: Given = field(default=0.0, kw_only=True)

    @property
    def written(self) -> Any:
        return find_function((self.a, self.b, self.equals), self)

    def check(self, frame: Frame, place: str) -> None:
        check_field(self.of, frame, place, derivatives=False)
        super().check(frame, place)

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        names = ("a", "b", "equals")
        a, b, g = (evaluate(getattr(self, name), at, name) for name in names)
        u = fields[self.of]
        return {self.of: a * u.value + b * u.normal - g}


@dataclass(frozen=True)
class Condition(OnBoundary):
    """Any expression that is zero at points: Condition(lambda at, u: u.x - u**2, on="x.low").

    Attributes:
        expression: takes `at`, and fields and unknowns by their names; gives (N,), or several.
        on: as everywhere, or "inside".
        weight, points, name: see `OnBoundary`.
    """

    kind: ClassVar[str] = "Condition"
    expression: Callable[..., Any]

    @property
    def written(self) -> Any:
        return find_function([self.expression], self)

    def check(self, frame: Frame, place: str) -> None:
        if not callable(self.expression):
            raise ProblemError(
                f"{place} is given {self.expression!r}: it must be a function of at and of fields"
            )
        super().check(frame, place)

    def zero(self, at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
        name = self.name or "condition"
        returned = call_by_name(self.expression, at, fields, unknowns, name)
        return name_values(returned, name)
