"""Conditions on integrals of the solution."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from hpctrain.kernels.symbols import Symbol
from hpctrain.problems.equations.conditions.base import (
    AnyCondition,
    Frame,
    Where,
    place_points_on,
    select_pieces,
)
from hpctrain.problems.equations.conditions.boundary import INSIDE
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.given import is_finite
from hpctrain.problems.equations.terms import ProblemError, Term, call_by_name, check_values


@dataclass(frozen=True)
class Integral(AnyCondition):
    """The mean of f has a value: Integral(lambda at, p: p, equals=0.0).

    The mean, ∫ f / ∫ 1, is taken over evenly distributed points: what belongs to an integral is its
    value divided by the measure of the part.

    Attributes:
        integrand: f, takes `at`, and fields and unknowns by their names; gives one value a point.
        equals: the mean.
        over: "inside", or a part of the boundary as for `Dirichlet`.
        weight, points, name: see `AnyCondition`; the points are those of the quadrature.
    """

    kind: ClassVar[str] = "Integral"
    integrand: Callable[..., Any]
    equals: float = field(default=0.0, kw_only=True)
    over: Where = field(default=INSIDE, kw_only=True)

    @property
    def written(self) -> Any:
        return self.integrand

    def check(self, frame: Frame, place: str) -> None:
        if not callable(self.integrand):
            raise ProblemError(
                f"{place} is given {self.integrand!r}: it must be a function of at and of fields"
            )
        if not is_finite(self.equals):
            raise ProblemError(f"{place}: equals = {self.equals!r}: it must be a finite number")
        if self.over != INSIDE:
            select_pieces(self.over, frame, place)

    def make_term(self, frame: Frame, name: str, points: int) -> Term:
        count = self.count_points(points)
        if self.over == INSIDE:
            x, normals = place_interior_points(frame.region, count, cube=frame.cube), None
        else:
            x, normals = place_points_on(self.over, frame, f"{frame.title}: {name}", count)
        return Term(name, x, self._zero, float(self.weight), normals, group=x.shape[1])

    def _zero(
        self, at: At, fields: Mapping[str, Field], unknowns: Mapping[str, Any]
    ) -> dict[str, Any]:
        name = self.name or "integral"
        values = call_by_name(self.integrand, at, fields, unknowns, name)
        values = values.value if isinstance(values, Field) else values
        if not isinstance(values, Symbol):
            values = check_values(values, at.all[0], "the integrand")
        return {name: torch.mean(values, dim=0) - float(self.equals)}
