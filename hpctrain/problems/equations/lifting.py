"""G of a form u = G + D·N: a function that takes all values which exact conditions give a field.

It is the first of these that does:

- the given function of one condition;
- the Boolean sum of the initial values u₀, with their rates u₁ if there are any, and a function B
  made in the same way of all other conditions,

      G = B(t, x) + u₀(x) − B(t₀, x) + (t − t₀) (u₁(x) − B_t(t₀, x)),

  which has u₀ and u₁ whatever B is, and the other values where u₀ = B(t₀) and u₁ = B_t(t₀) on their
  pieces, that is, where the conditions agree at the corners t = t₀. It is as smooth as they are;
- the blend of all of them by the distances φ of their pieces,

      G = Σ_i w_i g_i / Σ_i w_i,   w_i = Π_{j≠i} φ_j²,

  which needs no agreement. Its second derivatives grow like 1/r at the distance r from a place
  where pieces meet, even if all agrees there, and no network takes that away.

Sources: W. J. Gordon, C. A. Hall, Numerische Mathematik 21 (1973), 109-129 (the Boolean sum);
N. Sukumar, A. Srivastava, Computer Methods in Applied Mechanics and Engineering 389 (2022) (blend).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpctrain.problems.equations.ansatz import (
    Function,
    compute_gradient,
    evaluate_jets,
    join_coordinates,
    take_coordinates,
)
from hpctrain.problems.equations.checks.guard import guard, locate
from hpctrain.problems.equations.conditions.base import Frame, Given, evaluate
from hpctrain.problems.equations.conditions.boundary import START
from hpctrain.problems.equations.fields import TIME, At, Component
from hpctrain.problems.equations.geometry import Piece
from hpctrain.problems.equations.terms import ProblemError, check_values

# Values that differ by this part of their size agree.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Value:
    """What one exact condition says of one field.

    Attributes:
        name: of the condition.
        given: the value.
        slope: its derivative along time, where that is given.
        pieces: where.
        whole: it is all of the boundary in space.
    """

    name: str
    given: Given
    slope: Given | None
    pieces: tuple[Piece, ...]
    whole: bool

    @property
    def is_initial(self) -> bool:
        """Whether it is given at the first time alone."""
        return all(piece.name == START for piece in self.pieces)

    def function(self, frame: Frame) -> Function:
        """g, beyond its pieces too: value + (t - t₀) slope."""

        def g(points: Tensor) -> Tensor:
            value, slope = self.evaluate(At(frame.axes, points))
            return value if slope is None else value + _measure_time(points, frame) * slope

        return g

    def evaluate(self, at: At) -> tuple[Tensor, Tensor | None]:
        """The value (N,) and its slope."""
        slope = None if self.slope is None else self._evaluate(self.slope, at)
        return self._evaluate(self.given, at), slope

    def _evaluate(self, given: Given, at: At) -> Tensor:
        if not callable(given):
            return evaluate(given, at, self.name)
        title = f"the value of {self.name}"
        values = guard(given, title)(at)
        return check_values(values, at.all[0], locate(title, given))


@dataclass(frozen=True)
class Held:
    """A value that a form has for every network.

    Attributes:
        value: what is given.
        distance: φ of its pieces.
        points: (d, N), where it is tried.
    """

    value: Value
    distance: Function
    points: Tensor


def make_lifting(held: Sequence[Held], frame: Frame, place: str) -> Function:
    """G, of one condition or more.

    Raises:
        ProblemError: nothing that is tried takes all values.
    """
    functions = [each.value.function(frame) for each in held]
    by_size = sorted(functions, key=lambda g: -max(float(g(h.points).abs().max()) for h in held))
    for g in by_size:
        if meets_all(g, held, frame):
            return g
    starts = [each for each in held if each.value.is_initial]
    others = [each for each in held if not each.value.is_initial]
    if len(starts) == 1 and others:
        summed = _add_start(make_lifting(others, frame, place), starts[0].value, frame)
        if meets_all(summed, held, frame):
            return summed
    blended = _blend(functions, [each.distance for each in held])
    for each in held:
        if not _meets(blended, each, frame):
            raise ProblemError(
                f"{place} cannot be made: the values of {each.value.name} are not met by a blend of"
                f" {', '.join(h.value.name for h in held)}; write ansatz(), or take exact = False"
            )
    return blended


def _add_start(rest: Function, start: Value, frame: Frame) -> Function:
    """The Boolean sum of initial values and of the B of all others, `rest`."""
    time = frame.axes.coordinates.index(TIME)
    first = frame.region.bounds[time][0]

    def summed(points: Tensor) -> Tensor:
        rows = list(take_coordinates(points))
        rows[time] = torch.full_like(rows[time].detach(), first)
        before = join_coordinates(rows)
        value, slope = start.evaluate(At(frame.axes, before))
        total = rest(points) + (value - rest(before))
        if slope is None:
            return total
        return total + _measure_time(points, frame) * (slope - _differentiate(rest, rows, time))

    return summed


def _differentiate(function: Function, rows: Sequence[Tensor], along: int) -> Tensor:
    """The derivative (N,) of a function of the points that have these coordinates (N,)."""
    coordinates, fixed = [*rows], rows[along].detach().clone()
    moving = [row for row in rows if row.requires_grad] if torch.is_grad_enabled() else []
    with torch.enable_grad():
        # Made of the points where these are differentiated: on its own it would be a parameter.
        coordinates[along] = fixed + 0 * moving[0] if moving else fixed.requires_grad_()
        (found,) = compute_gradient(function(join_coordinates(coordinates)), [coordinates[along]])
    return found if moving else found.detach()


def _blend(functions: Sequence[Function], distances: Sequence[Function]) -> Function:
    """The blend of functions by the distances of their pieces."""

    def blend(points: Tensor) -> Tensor:
        squares = [phi(points) ** 2 for phi in distances]
        weights = [
            multiply(s for j, s in enumerate(squares) if j != i) for i in range(len(squares))
        ]
        total = sum(weights)
        # Where several meet, at corners, all weights vanish: there the conditions agree.
        safe = torch.where(total == 0, torch.ones_like(total), total)
        blended = sum(w * g(points) for w, g in zip(weights, functions, strict=True)) / safe
        return torch.where(total == 0, functions[0](points), blended)

    return blend


def _measure_time(points: Tensor, frame: Frame) -> Tensor:
    """t - t₀ (N,)."""
    time = frame.axes.coordinates.index(TIME)
    return points[time] - frame.region.bounds[time][0]


def multiply(factors: Iterable[Tensor]) -> Any:
    """The product of some numbers (N,), 1 of none."""
    return math.prod(factors, start=1.0)


def meets_all(g: Function, held: Sequence[Held], frame: Frame) -> bool:
    """Whether a function takes all values, and slopes along time."""
    return all(_meets(g, each, frame) for each in held)


def _meets(g: Function, held: Held, frame: Frame) -> bool:
    """Whether a function takes the values, and the slope along time, of one condition."""
    indices: list[Component] = [()]
    if held.value.slope is not None:
        indices.append((frame.axes.coordinates.index(TIME),))
    try:
        ours, theirs = (
            evaluate_jets(f, held.points, indices, (), "") for f in (g, held.value.function(frame))
        )
    except ProblemError:
        return False
    sizes = {index: float(theirs[index].abs().max()) or 1.0 for index in indices}
    return all(float((ours[i] - theirs[i]).abs().max()) <= _EQUAL * sizes[i] for i in indices)
