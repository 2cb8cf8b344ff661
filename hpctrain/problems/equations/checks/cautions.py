"""What a problem allows, but hardly means: warnings before a run, a line each."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetShape
from hpctrain.linalg.arrays import CPU
from hpctrain.problems.equations.checks.jumps import describe_jumps
from hpctrain.problems.equations.conditions import Observations, Periodic
from hpctrain.problems.equations.conditions.base import Frame, evaluate, select_pieces
from hpctrain.problems.equations.conditions.boundary import INSIDE, Exactable, OnBoundary
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.exact import FieldForm, describe_corners
from hpctrain.problems.equations.fields import At
from hpctrain.problems.equations.geometry.sampling import place_cube_points
from hpctrain.problems.equations.requests import Trial
from hpctrain.problems.equations.scaling import list_size_cautions
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.terms import EQUATION, Term

NO_CONDITIONS = "there are no conditions, and no ansatz: the equations alone have many solutions"
# Residuals below this part of their usual size are zero.
SOLVED = 1e-10
# Points at which the ends of a coordinate are compared, and the part of the values that counts.
COMPARED, APART = 64, 1e-6


class Cautioned(Protocol):
    """What is looked at: a problem made of checked equations."""

    equations: Equations
    frame: Frame
    formulation: Any
    forms: dict[str, FieldForm]
    terms: list[Term]

    @property
    def trials(self) -> list[Trial]:
        """Each term, called once with made-up values."""

    @property
    def shapes(self) -> list[JetShape]:
        """The jet that each term needs."""

    def describe_outside(self, points: Tensor) -> str:
        """How many of some points (d, N) lie outside of the geometry; empty for none."""


def list_cautions(problem: Cautioned) -> Iterator[str]:
    """Conditions that are missing, contradict each other or leave freedom; what no residual sees.

    Jumps of given functions, measurements outside, solutions that are given away, odd coordinates.
    """
    equations, frame, forms = problem.equations, problem.frame, problem.forms
    if not (equations.conditions or forms):
        yield f"{frame.title}: {NO_CONDITIONS}"
    yield from describe_corners(equations)
    yield from _find_unequal_ends(problem)
    for field, form in forms.items():
        yield from describe_jumps(field, form, frame, problem.shapes[0])
    if equations.conditions or forms:
        yield from _find_underdetermined(problem)
    yield from _find_measured_outside(problem)
    yield from _find_given_away(problem)
    yield from list_size_cautions(frame, _list_scales_off(problem))


def _find_unequal_ends(problem: Cautioned) -> Iterator[str]:
    """Conditions that stand on an end of a periodic coordinate, or differ between its ends."""
    frame, conditions = problem.frame, problem.equations.named_conditions
    for joining, periodic in conditions.items():
        if not isinstance(periodic, Periodic):
            continue
        ends = (f"{periodic.along}.low", f"{periodic.along}.high")
        for name, condition, pieces in _list_placed(problem):
            if on_ends := [piece for piece in pieces if piece in ends]:
                yield f"{frame.title}: {name} is on {on_ends[0]}, an end that {joining} joins"
            elif isinstance(condition, Exactable):
                yield from _compare_ends(frame, periodic.along, name, condition, joining)


def _list_placed(problem: Cautioned) -> Iterator[tuple[str, OnBoundary, list[str]]]:
    """Yields the conditions that stand on pieces of the boundary, with the names of these."""
    for name, condition in problem.equations.named_conditions.items():
        if isinstance(condition, OnBoundary) and not (
            condition.on == INSIDE or callable(condition.on)
        ):
            pieces = select_pieces(condition.on, problem.frame, name)
            yield name, condition, [piece.name for piece in pieces]


def _compare_ends(
    frame: Frame, along: str, name: str, condition: Exactable, joining: str
) -> Iterator[str]:
    """A value that is not the same at both ends of a coordinate."""
    number = frame.axes.coordinates.index(along)
    for piece in select_pieces(condition.on, frame, name):
        anywhere = piece.map(place_cube_points(piece.parameters, COMPARED)).points
        low, high = anywhere.clone(), anywhere.clone()
        low[number], high[number] = frame.region.bounds[number]
        for key, given in condition.values.items():
            one, two, values = (
                evaluate(given, At(frame.axes, x), key) for x in (low, high, anywhere)
            )
            apart = (one - two).abs()
            k = int(apart.argmax())
            if float(apart[k]) > APART * float(values.abs().max()):
                yield (
                    f"{frame.title}: {name} gives {key} = {float(one[k]):.6g} at"
                    f" {frame.axes.describe(low[:, k])} and {float(two[k]):.6g} at"
                    f" {along} = {float(high[number, k]):.6g}, which {joining} joins"
                )


def _find_underdetermined(problem: Cautioned) -> Iterator[str]:
    """Fewer equations inside than fields of all coordinates, where nothing is measured.

    What depends on fewer, such as a front s(t), may be determined at the boundary.
    """
    conditions, coordinates = problem.equations.named_conditions, problem.frame.axes.coordinates
    fields = [
        field
        for field in problem.frame.fields
        if set(coordinates) <= set(problem.equations.find_coordinates(field))
    ]
    if any(isinstance(each, Observations) for each in conditions.values()):
        return
    inside = {
        name
        for name, each in conditions.items()
        if isinstance(each, OnBoundary) and each.on == INSIDE
    }
    pairs = zip(problem.terms, problem.trials, strict=True)
    found = sum(len(trial.values) for t, trial in pairs if t.name in {EQUATION, *inside})
    if found < len(fields):
        residuals = "one residual" if found == 1 else f"{found} residuals"
        yield (
            f"{problem.frame.title}: {residuals} for {len(fields)} fields ({', '.join(fields)}),"
            " and no measurements: there may be many solutions"
        )


def _find_measured_outside(problem: Cautioned) -> Iterator[str]:
    """Measurements in a hole of the geometry, or beside it."""
    conditions = problem.equations.named_conditions
    for term in problem.terms:
        is_measured = isinstance(conditions.get(term.name), Observations)
        if is_measured and (line := problem.describe_outside(term.points)):
            yield f"{term.title}: {line}"


def _find_given_away(problem: Cautioned) -> Iterator[str]:
    """Fields that without any network solve the equations, and meet all conditions."""
    if set(problem.forms) != set(problem.frame.fields):
        return
    if all(_is_solved_by_liftings(problem, number) for number in range(len(problem.terms))):
        title = problem.frame.title
        yield f"{title}: G alone solves the equations: the network has nothing to learn"


def _is_solved_by_liftings(problem: Cautioned, number: int) -> bool:
    """Whether a term is zero where the network is."""
    term, trial, shape = problem.terms[number], problem.trials[number], problem.shapes[number]
    fields = problem.frame.fields
    composition = Composition(problem.frame, fields, problem.forms, shape, trial.at.all)
    size = (shape.components, len(problem.forms), *trial.at.all.shape[1:])
    unknowns = {
        name: torch.tensor(u.start, device=CPU) for name, u in problem.equations.unknowns.items()
    }
    with torch.no_grad():
        jet = torch.zeros(size, dtype=torch.float64, device=CPU)
        left = term.zero(trial.at, composition.fields(jet, trial.normals), unknowns)
    largest = max(float(r.abs().max()) for r in left.values())
    usual = max(float(r.detach().abs().max()) for r in trial.values.values())
    return largest <= SOLVED * usual


def _list_scales_off(problem: Cautioned) -> Sequence[str]:
    """The settings by which sizes would be scaled, and are not."""
    scales = {
        "network.scale_inputs": problem.formulation.scale_inputs,
        "problem.scale_distance": problem.formulation.scale_distance or not problem.forms,
    }
    return [key for key, on in scales.items() if not on]
