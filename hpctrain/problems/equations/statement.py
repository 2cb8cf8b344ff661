"""What equations ask of a solution: which terms are to be zero, and at which points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from hpctrain.problems.equations.adaptive.options import AdaptOptions
from hpctrain.problems.equations.checks.guard import guard_term, locate
from hpctrain.problems.equations.conditions.base import AnyCondition, Frame, split_name
from hpctrain.problems.equations.conditions.boundary import Exactable, OfValues
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.exact import make_exact_forms
from hpctrain.problems.equations.geometry import Box, GeometryError
from hpctrain.problems.equations.geometry.sampling import Cube, place_interior_points
from hpctrain.problems.equations.points import Cluster, move_into_clusters, spread_over_cells
from hpctrain.problems.equations.subdomains import Cut, find_ends
from hpctrain.problems.equations.terms import (
    EQUATION,
    ProblemError,
    Term,
    call_by_name,
    name_values,
)


@dataclass(frozen=True)
class Formulation:
    """How equations become a loss.

    Attributes:
        points: collocation points of the equation.
        condition_points: of a condition that names no number itself.
        is_soft: exact conditions and written forms are terms of the loss like any other.
        penalty: a factor of the weights of all conditions.
        scale_distance: divide distances by their maxima over the region.
        scale_inputs: the network takes coordinates scaled to [−1, 1].
        clusters: where collocation points lie denser.
        fourier: random frequencies (m, d) of further inputs of the network.
        adapt: what of the loss is renewed in the course of a run.
        separate: which fields have networks of their own; see `parts.divide_fields`.
        subdomains: how many along a coordinate, or the places between them, which have as many
            collocation points each, by its name; see `subdomains.Subdomains`.
        overlap: of neighbouring subdomains, in units of a cell.
    """

    points: int
    condition_points: int = 200
    is_soft: bool = False
    penalty: float = 1.0
    scale_distance: bool = False
    scale_inputs: bool = False
    clusters: Sequence[Cluster] = ()
    fourier: Tensor | None = None
    adapt: AdaptOptions | None = None
    separate: bool | Sequence[Sequence[str]] = False
    subdomains: Mapping[str, Cut] = field(default_factory=dict)
    overlap: float = 1.0


class Statement:
    """Equations with a formulation.

    Attributes:
        equations: checked.
        formulation: how they become a loss.
        points: of the equation (d, N).
        forms: u = G + D·N, of the fields that are no plain outputs of a network.

    Raises:
        ProblemError: no points can be placed, or a form is impossible.
    """

    def __init__(self, equations: Equations, formulation: Formulation) -> None:
        self.equations, self.formulation = equations, formulation
        self.points = self._place_points(equations.frame)
        self.forms = {} if formulation.is_soft else make_exact_forms(equations)

    def _place_points(self, frame: Frame) -> Tensor:
        try:
            return place_interior_points(
                frame.region, self.formulation.points, self.move_into_clusters, frame.cube
            )
        except GeometryError as error:
            raise ProblemError(f"{frame.title}: {error}") from error

    def move_into_clusters(self, points: Tensor) -> Tensor:
        """Evenly distributed points (d, N) of the bounding box, denser where the job asks."""
        bounds = self.equations.frame.region.bounds
        return move_into_clusters(self._spread(points), bounds, self.formulation.clusters)

    def _spread(self, points: Tensor) -> Tensor:
        """The points (d, N), as many in each of the subdomains whose places are given."""
        cuts = self.formulation.subdomains.items()
        graded = {name: cut for name, cut in cuts if not isinstance(cut, int)}
        for coordinate, ends in find_ends(self.equations.frame, graded).items():
            points = spread_over_cells(points, coordinate, ends)
        return points

    def make_terms(self) -> list[Term]:
        """The equation's own term, and those of the conditions that the form does not meet."""
        return self._make_terms(self.points, self.equations.frame)

    def draw_terms(self, cube: Cube) -> list[Term]:
        """The same at other points, which are made of `cube`; observations stay."""
        frame = replace(self.equations.frame, cube=cube)
        return self._make_terms(self._place_points(frame), frame)

    def _make_terms(self, points: Tensor, frame: Frame) -> list[Term]:
        f, equations = self.formulation, self.equations

        title = f"{frame.title}.residuals"
        place = locate(title, equations.residuals)

        def zero(at: Any, fields: Any, unknowns: Any) -> dict[str, Any]:
            returned = call_by_name(equations.residuals, at, fields, unknowns, place)
            return name_values(returned, "residual")

        terms = [guard_term(Term(EQUATION, points, zero), title, equations.residuals)]
        for name, condition in equations.named_conditions.items():
            if not self._is_met(condition):
                term = self._make_term(name, condition, frame)
                terms.append(replace(term, weight=term.weight * f.penalty))
        return terms

    @property
    def exact_terms(self) -> dict[str, Term]:
        """As terms, the conditions that are to hold by the forms of the fields."""
        return {
            name: self._make_term(name, condition, self.equations.frame)
            for name, condition in self.equations.named_conditions.items()
            if self._is_met(condition) and isinstance(condition, Exactable)
        }

    def _make_term(self, name: str, condition: AnyCondition, frame: Frame) -> Term:
        """The term of a condition."""
        term = condition.make_term(frame, name, self.formulation.condition_points)
        is_of_sides = isinstance(condition, OfValues) and isinstance(condition.on, str | None)
        if is_of_sides and isinstance(frame.region, Box):  # which are moved into themselves
            term = replace(term, points=self._spread(term.points))
        return guard_term(term, f"{frame.title}: {name}", condition.written)

    def _is_met(self, condition: AnyCondition) -> bool:
        """Whether a condition holds by the form of the solution."""
        if self.formulation.is_soft:
            return False
        if condition.is_exact:
            return True
        if not isinstance(condition, Exactable):
            return False
        named = {split_name(name)[0] for name in condition.values}
        return named <= {field for field, form in self.forms.items() if form.is_written}
