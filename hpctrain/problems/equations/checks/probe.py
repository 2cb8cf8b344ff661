"""Tries a problem on a few points before a run, for faults that no exception tells.

These are numbers that a run would take as they are: derivatives that a function loses on its way,
parameters of its own that nobody trains, points that it couples, forms that miss their conditions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hpctrain.linalg.arrays import CPU
from hpctrain.problems.equations.ansatz import (
    Function,
    evaluate_jets,
    make_derivative_error,
)
from hpctrain.problems.equations.checks.trainable import find_trainable
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.exact import FieldForm
from hpctrain.problems.equations.fields import Component
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.outputs import Quantities
from hpctrain.problems.equations.requests import Trial, evaluate_term, find_shape_for, try_out
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.terms import ProblemError, Term

# Points for the functions and their derivatives, and for the sign of the distance.
_POINTS, _INNER_POINTS = 64, 1000
# Values at the same points may differ by this many units of rounding of the largest one: torch has
# other instructions for the last points of an array.
_ROUNDING = 1e4
# A derivative is wrong where it differs by this part from the differences.
_WRONG = 0.01
# A form misses a condition where it is off by this part of the size of its values.
_MISSED = 1e-6


class Probed(Protocol):
    """What is tried: a problem made of checked equations."""

    equations: Any
    frame: Frame
    forms: dict[str, FieldForm]
    terms: list[Term]

    @property
    def quantities(self) -> Quantities:
        """What is measured beside the fields."""

    @property
    def trials(self) -> list[Trial]:
        """Each term, called once with made-up values."""

    @property
    def exact_terms(self) -> dict[str, Term]:
        """As terms, the conditions that are to hold by the forms."""


def probe(problem: Probed, dtype: torch.dtype = torch.float64) -> None:
    """Refuses a problem whose training would go wrong without a word.

    Args:
        problem: made of checked equations.
        dtype: of the residuals in the run.

    Raises:
        ProblemError: a function fails, couples points, has derivatives that are not its own, or
            depends on a parameter; a distance is not positive; a form misses a condition; a
            residual is nowhere finite; a field or an unknown is in no residual.
    """
    frame = problem.frame
    points = place_interior_points(frame.region, _POINTS)
    for field, form in problem.forms.items():
        for function, called in ((form.lifting, "G"), (form.distance, "D")):
            _probe_form(function, f"{form.place}: {called} of {field}", form, points, problem)
        _check_positive(field, form, frame)
    for term in problem.terms:
        trial = try_out(term, frame, dtype)
        _probe_values(term, trial, problem, dtype)
        for name, value in trial.values.items():
            _check_gradient(term, name, value, trial, frame, dtype)
    if quantities := problem.quantities.term:
        _probe_values(quantities, try_out(quantities, frame, dtype), problem, dtype)
    _check_all_used(problem.trials, frame)
    for name, term in problem.exact_terms.items():
        _check_met(name, term, problem)


def check_pointwise(
    function: Function, place: str, points: Tensor, values: Tensor, step: int = 2
) -> None:
    """Refuses a function that gives other values (N,) where it is called with fewer points.

    Args:
        function: takes points (d, N).
        place: what messages call it.
        points, values: of an earlier call.
        step: between the points that are evaluated again.
    """
    part = slice(1, None, step)
    if len(values[part]):
        _check_equal(place, values[part], function(points[:, part].contiguous()))


def check_untrainable(
    owner: Any, function: Any, place: str, value: Tensor, given: Sequence[Tensor]
) -> None:
    """Refuses what depends on a tensor that requires gradients and was not given."""
    named = find_trainable(owner, function, value, given)
    if named is not None:
        raise ProblemError(
            f"{place} depends on {named}, which requires gradients: make it a number, or an"
            " Unknown that is trained"
        )


def _check_equal(place: str, values: Tensor, again: Tensor) -> None:
    values, again = values.detach(), again.detach()
    scale = float(values.abs().nan_to_num(0, 0).max())
    tolerance = _ROUNDING * torch.finfo(values.dtype).eps * scale
    if not torch.allclose(values, again.to(values), rtol=0, atol=tolerance, equal_nan=True):
        raise ProblemError(
            f"{place} gave other values when it was called with a part of the points: it must act"
            " on each point for itself, and not draw random numbers"
        )


def _probe_form(
    function: Function, place: str, form: FieldForm, points: Tensor, problem: Probed
) -> None:
    leaf = points.clone().requires_grad_()
    value = function(leaf)
    check_untrainable(problem.equations, form.written, place, value, [leaf])
    check_pointwise(function, place, points, value)
    axes = problem.frame.axes
    indices: list[Component] = [(), *((i,) for i in range(len(axes.coordinates)))]
    found = evaluate_jets(function, points, indices, (), place)
    for i, name in enumerate(axes.coordinates):
        step = torch.zeros_like(points)
        step[i] = 1
        _check_derivative(place, name, function, points, step, found[(i,)])


def _check_positive(field: str, form: FieldForm, frame: Frame) -> None:
    points = place_interior_points(frame.region, _INNER_POINTS)
    values = form.distance(points)
    bad = ~(values > 0)
    if bool(bad.any()):
        raise ProblemError(
            f"{form.place}: D of {field} is {float(values[bad][0]):.3g} at"
            f" {frame.axes.describe(points[:, bad][:, 0])}: it must be positive inside the geometry"
        )


def _probe_values(term: Term, trial: Trial, problem: Probed, dtype: torch.dtype) -> None:
    frame, place = problem.frame, f"{term.place}: {term.title}"
    given = [*trial.leaves.values(), *trial.unknowns.values()]
    for name, value in trial.values.items():
        check_untrainable(problem.equations, term.written, place, value, given)
        if not bool(value.isfinite().any()):
            raise ProblemError(f"{place}: {name} is not finite at any of {len(value)} points")
    samples = trial.at.count
    if samples > 1:
        part = {key: leaf.detach()[..., 1::2] for key, leaf in trial.leaves.items()}
        again = evaluate_term(term, frame, slice(1, samples, 2), part, trial.unknowns, dtype)
        for name, value in trial.values.items():
            _check_equal(place, value[1::2], again[name])


def _check_gradient(
    term: Term, name: str, value: Tensor, trial: Trial, frame: Frame, dtype: torch.dtype
) -> None:
    """Refuses a residual whose derivative with respect to a field's jet is lost."""
    place = f"{term.place}: {term.title}"
    inputs = [*trial.leaves.values(), *trial.unknowns.values()]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if value.requires_grad:
        try:
            found = torch.autograd.grad(value.sum(), inputs, allow_unused=True, retain_graph=True)
        except Exception as error:
            raise make_derivative_error(place, error) from error
    # In groups a value belongs to several points, of which differences would move all at once.
    leaves = trial.leaves.items() if term.group == 1 else ()
    for ((field, component), leaf), gradient in zip(leaves, found, strict=False):
        path = frame.axes.derivative(component)
        called = f"{field}.{path}" if path else field

        def evaluate(x: Tensor, key: Any = (field, component)) -> Tensor:
            moved = {**trial.leaves, key: x}
            samples = slice(0, len(value))
            with torch.no_grad():
                return evaluate_term(term, frame, samples, moved, trial.unknowns, dtype)[name]

        gradient = torch.zeros_like(leaf) if gradient is None else gradient
        _check_derivative(
            place, called, evaluate, leaf.detach(), torch.ones_like(leaf), gradient.detach()
        )
    if all(each is None for each in found):
        raise ProblemError(
            f"{place}: {name} does not depend on {' or '.join(frame.fields)} by way of torch"
            " operations that have derivatives: its gradient would be zero"
        )


def _check_derivative(
    place: str, name: str, evaluate: Function, x: Tensor, step: Tensor, found: Tensor
) -> None:
    """Refuses a derivative (N,) that differs from central differences at most of the points.

    Args:
        place: what messages call the function.
        name: of what it is differentiated by.
        evaluate: gives values (N,), each of its own point.
        x: where.
        step: the direction, added to x with some length.
        found: the derivative.
    """
    eps = torch.finfo(x.dtype).eps
    h = eps ** (1 / 3) * (float((x * step).abs().max()) or 1.0)
    ahead, behind = evaluate(x + h * step), evaluate(x - h * step)
    difference = (ahead - behind) / (2 * h)
    rounding = 100 * eps * float(ahead.detach().abs().nan_to_num(0, 0).max()) / h
    allowed = _WRONG * torch.maximum(difference.abs(), found.abs()) + rounding
    wrong = (difference - found).abs() > allowed
    if int(wrong.sum()) > len(found) // 2:
        raise ProblemError(
            f"{place} loses its derivative with respect to {name}: torch finds"
            f" {float(found[wrong][0]):.3g} where differences give"
            f" {float(difference[wrong][0]):.3g}; it must be made of torch operations, without"
            " detach() or numpy"
        )


def _check_all_used(trials: Sequence[Trial], frame: Frame) -> None:
    """Refuses fields and unknowns that no residual depends on."""
    for field in frame.fields:
        if not any(trial.asked[field] for trial in trials):
            raise ProblemError(f"{frame.title}: no residual or condition uses the field {field}")
    for name in frame.unknowns:
        if not any(_uses(trial, name) for trial in trials):
            raise ProblemError(
                f"{frame.title}: nothing depends on the unknown {name}: it could not be found"
            )


def _uses(trial: Trial, name: str) -> bool:
    total = sum(value.sum() for value in trial.values.values() if value.requires_grad)
    if not isinstance(total, Tensor):
        return False
    leaf = trial.unknowns[name]
    (found,) = torch.autograd.grad(total, leaf, allow_unused=True, retain_graph=True)
    return found is not None


def _check_met(name: str, term: Term, problem: Probed) -> None:
    """Refuses forms that miss a condition which is no term of the loss because of them."""
    frame = problem.frame
    trial = try_out(term, frame)
    shape = find_shape_for(trial.components, frame)
    composition = Composition(frame, frame.fields, problem.forms, shape, trial.at.all)
    samples = trial.at.count
    random = torch.Generator(CPU).manual_seed(0)
    size = (shape.components, len(frame.fields), samples)
    jet = 0.5 + torch.rand(size, dtype=torch.float64, generator=random, device=CPU)
    with torch.no_grad():
        fields = composition.fields(jet, trial.normals)
        values: Mapping[str, Tensor] = term.zero(
            trial.at, fields, {k: v[0] for k, v in trial.unknowns.items()}
        )
        sizes = {field: float(each.value.abs().max()) for field, each in fields.items()}
    for key, value in values.items():
        allowed = _MISSED * max(1.0, sizes[key.partition(".")[0]])
        j = int(value.abs().argmax())
        if float(value.abs()[j]) > allowed:
            raise ProblemError(
                f"{frame.title}.ansatz does not meet {name}: {key} misses it by"
                f" {float(value[j]):.3g} at {frame.axes.describe(trial.at.all[:, j])}"
            )
