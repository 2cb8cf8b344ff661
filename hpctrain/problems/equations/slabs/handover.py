"""What a window of time takes from the end of the one before it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import combinations_with_replacement
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_array
from hpctrain.problems.equations.ansatz import evaluate_jets, join_coordinates, take_coordinates
from hpctrain.problems.equations.conditions.base import Given, split_name
from hpctrain.problems.equations.fields import HIGHEST_ORDER, At, Index
from hpctrain.problems.equations.problem import PinnProblem


class Handover:
    """What a window takes from the one before it, which is evaluated once at a set of points.

    A form that holds values and rates asks for both, and the form of the window before asks for
    those of its own: evaluated for each, they cost exponentially in the number of windows.

    Args:
        before: gives the solution of the window before, a `Start`.
        names: fields, and derivatives, that are taken.
    """

    def __init__(self, before: "Callable[[], Start]", names: Sequence[str]) -> None:
        self._before, self._names = before, tuple(names)
        self._kept = KeptJets()
        self._ends: WeakKeyDictionary[At, End | Jets] = WeakKeyDictionary()

    def take(self, name: str) -> Given:
        """The value of a field, or of a derivative, at the end of the window before."""

        def value(at: At) -> Tensor:
            if at not in self._ends:
                start = self._before()
                if start.problem.dtype == torch.float64 and start.digest is not None:
                    self._ends[at] = Jets(start, self._names, at.all, self._kept)
                else:
                    self._ends[at] = End(start, self._names, at.all)
            return self._ends[at].evaluate(name)

        return value


class Start:
    """The solution of the window before at its last time, as a function of the other coordinates.

    Args:
        problem: of the window before.
        theta: its network's parameters (n,).
        time: its last one.
        digest: differs for other parameters, of this window or of one before it; None where all
            operations are to be torch's, as for an export.
    """

    def __init__(
        self, problem: PinnProblem, theta: Tensor, time: float, digest: bytes | None
    ) -> None:
        self.problem, self.time, self.digest = problem, time, digest
        self.theta = theta.detach().double().cpu()

    def read_name(self, name: str) -> tuple[str, Index]:
        """The field and the derivative of "u.t", which conditions have checked."""
        field, path = split_name(name)
        return field, (self.problem.frame.axes.index(path) or ()) if path else ()


class End:
    """Fields and derivatives of a `Start` at points (d, N), whatever their time.

    Args:
        start: the solution.
        names: fields, and derivatives, that are taken. Fields of which values alone are taken are
            evaluated without a graph of their own: torch exports no more than two in each other.
        points: whose time is left out.
    """

    def __init__(self, start: Start, names: Sequence[str], points: Tensor) -> None:
        self._start, self._like = start, points.detach()
        self._wants_gradient = torch.is_grad_enabled() and points.requires_grad
        taken = map(start.read_name, names)
        self._differentiated = {field for field, index in taken if index}
        given = [row.double().cpu() for row in take_coordinates(points)]
        self._rows = [torch.full_like(given[0].detach(), start.time), *given[1:]]
        self._points = join_coordinates(self._rows)
        self._fields: dict[str, Tensor] = {}

    def evaluate(self, name: str) -> Tensor:
        """A field, or a derivative such as "u.t", (N,)."""
        field, index = self._start.read_name(name)
        if field not in self._differentiated:
            return self._evaluate_field(field, self._points).to(self._like)
        with torch.enable_grad():
            values = self._evaluate_field(field, self._tracked[1])
            for coordinate in index:
                (values,) = torch.autograd.grad(
                    values.sum(),
                    self._tracked[0][coordinate],
                    create_graph=True,
                    materialize_grads=True,
                )
        found = values.to(self._like)
        return found if self._wants_gradient else found.detach()

    @cached_property
    def _tracked(self) -> tuple[list[Tensor], Tensor]:
        """Coordinates along which torch can differentiate, and the points that they make."""
        rows = [row if row.requires_grad else row.detach().requires_grad_() for row in self._rows]
        return rows, join_coordinates(rows)

    def _evaluate_field(self, field: str, points: Tensor) -> Tensor:
        if field not in self._fields:
            start = self._start
            self._fields[field] = start.problem.evaluate_in_torch(start.theta, field, points)
        return self._fields[field]


FieldJets = dict[str, dict[Index, Tensor]]


class KeptJets:
    """Jets at the end of a window, the last ones that were asked for.

    Windows have the same points but for their time, and so has what is tried out before a run: the
    window before has then what the one before itself had there.
    """

    # Numbers that are kept, at most.
    MOST = 20_000_000

    def __init__(self) -> None:
        self._found, self._numbers = OrderedDict[bytes, tuple[int, FieldJets]](), 0

    def find(self, key: bytes, evaluate: Callable[[], FieldJets]) -> FieldJets:
        """Those of a key; `evaluate` gives them where they are not kept."""
        if key in self._found:
            self._found.move_to_end(key)
            return self._found[key][1]
        jets = evaluate()
        numbers = sum(each.numel() for own in jets.values() for each in own.values())
        self._found[key] = numbers, jets
        self._numbers += numbers
        while self._numbers > self.MOST and len(self._found) > 1:
            self._numbers -= self._found.popitem(last=False)[1][0]
        return jets


class Jets:
    """What is taken of a `Start` at points (d, N), differentiable in space, by its kernels' jets.

    Windows have jets of one another: torch's own graph of them all is passed through again for
    each derivative, and by order k for each of its parts. Derivatives to the order of the equations
    are evaluated together when the first is asked for, those of a higher order by torch.

    Args:
        start: the solution.
        names: fields, and derivatives, that are taken.
        points: whose time is left out.
        kept: jets at other points, and at these.

    Attributes:
        space: the coordinates other than time.
    """

    def __init__(self, start: Start, names: Sequence[str], points: Tensor, kept: KeptJets) -> None:
        self._start, self._points = start, points
        self._coordinates = take_coordinates(points)
        problem = start.problem
        self.space = problem.frame.axes.space
        orders = (len(index) for shape in problem.shapes for index in shape.indices)
        most = max(*orders, 2)
        self._indices = {
            _join(taken, further)
            for taken in {start.read_name(name)[1] for name in names}
            for order in range(min(most, HIGHEST_ORDER - len(taken)) + 1)
            for further in combinations_with_replacement(self.space, order)
        }
        self._kept = kept

    def evaluate(self, name: str) -> Tensor:
        """A field, or a derivative such as "u.t", (N,)."""
        field, index = self._start.read_name(name)
        return _Derivative.apply(self, field, index, *self._coordinates)

    def take(self, field: str, index: Index) -> Tensor:
        """A derivative (N,) of a field."""
        known = self._known[field]
        if index not in known:
            return self._differentiate(field, index)
        return known[index].to(self._points)

    @cached_property
    def _known(self) -> FieldJets:
        points = self._move_points()
        rows = to_array(points.contiguous()).tobytes()
        assert self._start.digest is not None
        key = blake2b(rows + repr(points.shape).encode() + self._start.digest).digest()
        return self._kept.find(key, lambda: self._evaluate_all(points))

    def _evaluate_all(self, points: Tensor) -> FieldJets:
        problem, axes = self._start.problem, self._start.problem.frame.axes
        names = {
            (field, index): f"{field}.{axes.derivative(index)}" if index else field
            for field in problem.frame.fields
            for index in self._indices
        }
        theta = self._start.theta.to(problem.device)
        found = problem.evaluate(theta, points, list(names.values()), 1)
        known: FieldJets = {field: {} for field in problem.frame.fields}
        for (field, index), name in names.items():
            known[field][index] = found[name].cpu()
        return known

    def _move_points(self) -> Tensor:
        points = self._points.detach().double().cpu().clone()
        points[0] = self._start.time
        return points

    def _differentiate(self, field: str, index: Index) -> Tensor:
        start = self._start
        below = [index[:k] for k in range(len(index) + 1)]

        def value(x: Tensor) -> Tensor:
            return start.problem.evaluate_in_torch(start.theta, field, x)

        place = f"{field} of the window before"
        return evaluate_jets(value, self._move_points(), below, (), place)[index].to(self._points)


class _Derivative(torch.autograd.Function):
    """A derivative, whose own are those of one order more."""

    @staticmethod
    def forward(ctx: Any, jets: Jets, field: str, index: Index, *coordinates: Tensor) -> Tensor:
        ctx.save_for_backward(*coordinates)
        ctx.taken = jets, field, index
        return jets.take(field, index).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        jets, field, index = ctx.taken
        wanted = ctx.needs_input_grad[3:]

        def differentiate(axis: int) -> Tensor | None:
            if not wanted[axis] or axis not in jets.space:
                return None
            further = _Derivative.apply(jets, field, _join(index, (axis,)), *ctx.saved_tensors)
            return gradients[0] * further

        return (None, None, None, *map(differentiate, range(len(wanted))))


def _join(first: Index, second: Index) -> Index:
    """The derivative of a derivative."""
    return tuple(sorted((*first, *second)))
