"""The same equations within a window of time, which begins where the one before it ends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hpctrain.errors import InputError
from hpctrain.problems.equations.conditions import Initial, Observations
from hpctrain.problems.equations.conditions.base import select_pieces
from hpctrain.problems.equations.conditions.boundary import INSIDE, START, OnBoundary
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.fields import TIME
from hpctrain.problems.equations.geometry import Box, Geometry
from hpctrain.problems.equations.geometry.base import Product
from hpctrain.problems.equations.slabs.handover import Handover, Start

END = f"{TIME}.high"


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
        "no conditions at t.low and t.high other than Initial: each window would meet them": any(
            piece.name in (START, END)
            for each in equations.conditions
            if isinstance(each, OnBoundary) and not isinstance(each, Initial)
            if each.on != INSIDE and not callable(each.on)
            for piece in select_pieces(each.on, equations.frame, title)
        ),
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
    equations: Equations, window: tuple[float, float], before: Callable[[], Start] | None
) -> Equations:
    """The equations within a window.

    Args:
        window: its first and last time.
        before: gives the solution that it begins with, a `Start`; None for the first window.
    """
    low, high = equations.frame.region.bounds[0]
    geometry = _cut(equations.geometry, window)
    assert geometry is not None  # as `find_windows` has seen
    altered: dict[str, Any] = {"geometry": geometry}
    if equations.grid is not None:
        count, *others = equations.grid
        share = (window[1] - window[0]) / (high - low)
        altered["test_grid"] = (max(2, 1 + round((count - 1) * share)), *others)
    if before is not None:
        starts = [each for each in equations.conditions if isinstance(each, Initial)]
        handover = Handover(before, [name for each in starts for name in each.values])
        altered["conditions"] = tuple(
            replace(each, values={name: handover.take(name) for name in each.values})
            if isinstance(each, Initial)
            else each
            for each in equations.conditions
        )
    return equations.alter(**altered)


def count_windows(slabs: int | Sequence[float]) -> int:
    """How many windows there are."""
    return slabs if isinstance(slabs, int) else len(slabs)


def is_ascending(ends: Sequence[float]) -> bool:
    """Whether each is a finite number above the one before it."""
    pairs = pairwise(ends)
    return all(map(math.isfinite, ends)) and all(a < b for a, b in pairs)
