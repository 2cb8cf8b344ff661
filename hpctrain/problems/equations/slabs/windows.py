"""The same equations within a window of time, which begins where the one before it ends."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from hpctrain.errors import InputError
from hpctrain.problems.equations.conditions import Initial, Observations
from hpctrain.problems.equations.conditions.base import Given, split_name
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import TIME, At
from hpctrain.problems.equations.geometry import Box, Geometry
from hpctrain.problems.equations.geometry.base import Product
from hpctrain.problems.equations.problem import PinnProblem

# What an attribute of a class is kept as, once it was asked for.
CACHED = ("frame", "named_conditions")


def find_windows(slabs: int | Sequence[float], equations: Equations) -> list[tuple[float, float]]:
    """The first and the last time of each window.

    Args:
        slabs: how many, of equal length, or where each ends.

    Raises:
        InputError: the windows are not windows of the equations' time, or these have something that
            cannot be passed from one to the next.
    """
    _check_sliceable(equations)
    low, high = equations.frame.region.bounds[0]
    if isinstance(slabs, int):
        ends = [low + (high - low) * k / slabs for k in range(1, slabs)] + [high]
    else:
        ends = list(slabs)
    if not (low < ends[0] and ends[-1] == high):
        raise InputError(
            f"problem.slabs = {slabs} is not allowed: times above {low:g}, the last one {high:g}"
        )
    return list(zip([low, *ends[:-1]], ends, strict=True))


def _check_sliceable(equations: Equations) -> None:
    title = equations.frame.title
    starts = [each for each in equations.conditions if isinstance(each, Initial)]
    reasons = {
        "time as the first coordinate, t": equations.geometry.axes[0] != TIME,
        "a geometry that is a box, or a product of one with others": not _cut(
            equations.geometry, equations.frame.region.bounds[0]
        ),
        "an Initial condition, which each window takes from the one before": not starts,
        "no unknowns: each window would find others": bool(equations.unknowns),
        "fields that all depend on t: each window would find others": any(
            TIME not in equations.find_coordinates(field) for field in equations.fields
        ),
        "no ansatz() of its own: it is written for all of time": type(equations).ansatz
        is not Equations.ansatz,
        "no Observations: they are not shared out over windows": any(
            isinstance(each, Observations) for each in equations.conditions
        ),
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise InputError(f"problem.slabs is not allowed for {title}: it needs {reason}")


def _cut(geometry: Geometry, window: tuple[float, float]) -> Geometry | None:
    """The geometry within a window of its first coordinate; None where that is no side of a box."""
    if isinstance(geometry, Box):
        pairs = zip(geometry.axes, geometry.bounds, strict=True)
        return Box(geometry.name, **{**dict(pairs), geometry.axes[0]: window})
    if isinstance(geometry, Product):
        first = _cut(geometry.first, window)
        return None if first is None else Product(first, geometry.second)
    return None


def take_window(
    equations: Equations, window: tuple[float, float], before: "Callable[[], Start] | None"
) -> Equations:
    """The equations within a window.

    Args:
        window: its first and last time.
        before: gives the solution that it begins with, a `Start`; None for the first window.
    """
    part = copy.copy(equations)
    for name in CACHED:
        vars(part).pop(name, None)
    low, high = equations.frame.region.bounds[0]
    geometry = _cut(equations.geometry, window)
    assert geometry is not None  # as `find_windows` has seen
    part.geometry = geometry
    if equations.grid is not None:
        count, *others = equations.grid
        share = (window[1] - window[0]) / (high - low)
        part.test_grid = (max(2, 1 + round((count - 1) * share)), *others)
    if before is not None:
        handover = Handover(before)
        part.conditions = tuple(
            replace(each, values={name: handover.take(name) for name in each.values})
            if isinstance(each, Initial)
            else each
            for each in equations.conditions
        )
    part.check()
    return part


# The coordinates (N,) that points (d, N) were made of, which are taken in the place of the points'
# rows: what a window takes from the one before does not depend on its own time then, and its rate
# does not differentiate the forms of all windows before.
_ROWS = WeakIdKeyDictionary()


class Handover:
    """What a window takes from the one before it, which is evaluated once at a set of points.

    A form that holds values and rates asks for both, and the form of the window before asks for
    those of its own: evaluated for each, they cost exponentially in the number of windows.

    Args:
        before: gives the solution of the window before, a `Start`.
    """

    def __init__(self, before: "Callable[[], Start]") -> None:
        self._before = before
        self._ends: WeakKeyDictionary[At, End] = WeakKeyDictionary()

    def take(self, name: str) -> Given:
        """The value of a field, or of a derivative, at the end of the window before."""

        def value(at: At) -> Tensor:
            if at not in self._ends:
                self._ends[at] = End(self._before(), at.all)
            return self._ends[at].evaluate(name)

        return value


class Start:
    """The solution of the window before at its last time, as a function of the other coordinates.

    Args:
        problem: of the window before.
        theta: its network's parameters (n,).
        time: its last one.
    """

    def __init__(self, problem: PinnProblem, theta: Tensor, time: float) -> None:
        self.problem, self.time = problem, time
        self.theta = theta.detach().double().cpu()


class End:
    """Fields and derivatives of a `Start` at points (d, N), whatever their time."""

    def __init__(self, start: Start, points: Tensor) -> None:
        self._start, self._like = start, points.detach()
        self._wants_gradient = torch.is_grad_enabled() and points.requires_grad
        with torch.enable_grad():
            given = _ROWS.get(points) or points.double().cpu().unbind()
            time = torch.full_like(given[0].detach(), start.time)
            rows = [time, *(row if row.requires_grad else row.detach() for row in given[1:])]
            self._rows = [row if row.requires_grad else row.requires_grad_() for row in rows]
            self._points = torch.stack(self._rows)
            _ROWS[self._points] = self._rows
        self._fields: dict[str, Tensor] = {}

    def evaluate(self, name: str) -> Tensor:
        """A field, or a derivative such as "u.t", (N,)."""
        field, path = split_name(name)
        with torch.enable_grad():
            values = self._evaluate_field(field)
            index = self._start.problem.frame.axes.index(path) if path else ()
            for coordinate in index or ():
                (values,) = torch.autograd.grad(
                    values.sum(),
                    self._rows[coordinate],
                    create_graph=True,
                    materialize_grads=True,
                )
        found = values.to(self._like)
        return found if self._wants_gradient else found.detach()

    def _evaluate_field(self, field: str) -> Tensor:
        if field not in self._fields:
            start = self._start
            self._fields[field] = start.problem.evaluate_in_torch(start.theta, field, self._points)
        return self._fields[field]


def count_windows(slabs: int | Sequence[float]) -> int:
    """How many windows there are."""
    return slabs if isinstance(slabs, int) else len(slabs)


def is_ascending(ends: Sequence[float]) -> bool:
    """Whether each is a finite number above the one before it."""
    pairs = pairwise(ends)
    return all(map(math.isfinite, ends)) and all(a < b for a, b in pairs)
