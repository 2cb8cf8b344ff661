"""What a solution is asked for at any points: its fields, their derivatives, and quantities.

A quantity is a function of fields and derivatives that the user names, such as a speed.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from hpctrain.kernels.jets import JetShape
from hpctrain.problems.equations.blending import ForwardJets
from hpctrain.problems.equations.checks.guard import guard_term, locate
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import HIGHEST_ORDER, LAPLACIAN, At, Component, is_name
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.requests import Trial, find_shape_for, lengthen, try_out
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.terms import ProblemError, Term, call_by_name, name_values

QUANTITIES = "quantities"
# Points at which quantities are tried out.
_TRIED = 64


class Solution(Protocol):
    """A problem whose fields can be evaluated."""

    equations: Equations

    @property
    def quantities(self) -> "Quantities": ...

    def make_field_jets(
        self, shape: JetShape, points: Tensor, bounds: list[int], threads: int
    ) -> ForwardJets: ...

    def make_composition(self, shape: JetShape, points: Tensor) -> Composition: ...

    def evaluate_unknowns(self, theta: Tensor) -> dict[str, float]: ...


class Quantities:
    """The quantities of equations; they are none where the class gives none.

    Args:
        equations: checked.

    Raises:
        ProblemError: what the class gives is no mapping of names to values.
    """

    def __init__(self, equations: Equations) -> None:
        self._equations = equations

    @cached_property
    def term(self) -> Term | None:
        """They are tried out as the residuals of a term are."""
        equations, frame = self._equations, self._equations.frame
        if type(equations).quantities is Equations.quantities:
            return None
        title = f"{frame.title}.{QUANTITIES}"
        place = locate(title, equations.quantities)
        taken = {*frame.fields, *frame.unknowns, *frame.axes.names}

        def evaluate(at: At, fields: Any, unknowns: Any) -> dict[str, Any]:
            given = call_by_name(equations.quantities, at, fields, unknowns, place)
            if not isinstance(given, Mapping):
                raise ProblemError(
                    f"{place} returned a value of type {type(given).__name__}: it must be a"
                    ' mapping, such as {"speed": …}'
                )
            for name in given:
                if not is_name(name) or name in taken:
                    raise ProblemError(
                        f"{place} has the name {name!r}: it must be a Python name, and none of"
                        f" {', '.join(sorted(taken))}"
                    )
            return name_values(given, QUANTITIES) if given else {}

        points = place_interior_points(frame.region, _TRIED)
        return guard_term(Term(QUANTITIES, points, evaluate), title, equations.quantities)

    @cached_property
    def _trial(self) -> Trial | None:
        return None if self.term is None else try_out(self.term, self._equations.frame)

    @property
    def names(self) -> tuple[str, ...]:
        return () if self._trial is None else tuple(self._trial.values)

    @property
    def components(self) -> set[Component]:
        """What they ask of fields."""
        return set() if self._trial is None else self._trial.components

    def evaluate(
        self, at: At, fields: Mapping[str, Any], unknowns: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Each of them (N,)."""
        return {} if self.term is None else self.term.zero(at, fields, unknowns)


class Outputs:
    """Values by name at fixed points.

    Args:
        solution: which is evaluated.
        names: fields, derivatives such as "u.x", quantities.
        points: (d, N), float64.
        bounds: of the groups that threads take.
        threads: of the kernels.

    Raises:
        ProblemError: there is nothing of such a name.
    """

    def __init__(
        self,
        solution: Solution,
        names: Sequence[str],
        points: Tensor,
        bounds: list[int],
        threads: int,
    ) -> None:
        frame = solution.equations.frame
        self._solution, self._count = solution, points.shape[1]
        self._names = tuple(names)
        quantities = solution.quantities
        self._has_quantities = any(name in quantities.names for name in names)
        self._found = {
            name: _find_component(name, frame, quantities.names)
            for name in names
            if name not in quantities.names
        }
        components = {component for _, component in self._found.values()}
        if self._has_quantities:
            components |= quantities.components
        shape = find_shape_for(components or {()}, frame)
        self._jets = solution.make_field_jets(shape, points, bounds, threads)
        longer = lengthen(points)
        self._composition = solution.make_composition(shape, longer)
        self._at = At(frame.axes, longer)

    def evaluate(self, theta: Tensor) -> dict[str, Tensor]:
        """Each (N,) at θ (n,)."""
        solution = self._solution
        fields = self._composition.fields(lengthen(self._jets.forward(theta, keep=False)))
        values = {
            name: fields[field].component(component)
            for name, (field, component) in self._found.items()
        }
        if self._has_quantities:
            values |= solution.quantities.evaluate(
                self._at, fields, solution.evaluate_unknowns(theta)
            )
        return {name: values[name][: self._count] for name in self._names}


def _find_component(name: str, frame: Frame, quantities: Sequence[str]) -> tuple[str, Component]:
    """The field and the derivative that "u.x" names."""
    field, _, path = name.partition(".")
    axes = frame.axes
    index = LAPLACIAN if path == LAPLACIAN else axes.index(path) if path else ()
    is_too_high = isinstance(index, tuple) and len(index) > HIGHEST_ORDER
    if field not in frame.fields or index is None or is_too_high:
        raise ProblemError(
            f"{name!r} is not allowed: one of {', '.join((*frame.fields, *quantities))}, or a"
            f" derivative such as {frame.fields[0]}.{axes.coordinates[0]}, to order {HIGHEST_ORDER}"
        )
    return field, index
