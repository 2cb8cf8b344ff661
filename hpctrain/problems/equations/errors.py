"""The errors of a solution against its reference, and its unknowns, measured by all ranks."""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import sum_chunks, to_array
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import share_chunks
from hpctrain.problems.equations.checks.guard import guard, locate
from hpctrain.problems.equations.checks.probe import check_pointwise, check_untrainable
from hpctrain.problems.equations.equations import Equations, check_up_to_constant
from hpctrain.problems.equations.fields import At
from hpctrain.problems.equations.geometry.sampling import place_interior_points
from hpctrain.problems.equations.outputs import Outputs, Solution
from hpctrain.problems.equations.points import make_grid_points
from hpctrain.problems.equations.requests import lengthen
from hpctrain.problems.equations.term_losses import (
    ProblemOfTerms,
    TermLosses,
    describe_overfitted,
    list_measured,
)
from hpctrain.problems.equations.terms import ProblemError, check_values
from hpctrain.problems.equations.uncertainty import Uncertainty
from hpctrain.store.run_file import INTERVAL, STANDARD_ERROR, TERM_LOSS

# Points at which errors are measured where there is no grid.
SCATTERED = 10_000
# Numbers for each field from which its errors are made.
SUMS = 5
# Of a sum of squares, by which a difference of two such sums may be off.
ROUNDING = 1e-13


class Measured(ProblemOfTerms, Solution, Protocol):
    """What the monitor needs of a problem: its fields at any points, and its terms."""

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def estimate_uncertainties(
        self, theta: Tensor, communicator: Communicator, chunks: int, threads: int
    ) -> dict[str, Uncertainty]: ...


def find_test_points(equations: Equations) -> Tensor:
    """The points (d, N) at which errors are measured: a grid, or points inside."""
    region, grid = equations.frame.region, equations.grid
    if grid is None:
        return place_interior_points(region, SCATTERED)
    return make_grid_points(region.bounds, grid)


class ErrorMonitor:
    """‖u_NN − u‖ / ‖u‖ of each field or quantity with a reference; see `problems.base.Monitor`.

    Where u is zero it is the root mean square of u_NN. `error` is the largest of them. An equation
    of one field has `error_paper` too, which is divided by ‖u_NN‖ as in Kopaničáková et al. 2024;
    one of several has `error_u` for each u. The unknowns are columns under their names, and so are
    the losses of several terms (`TermLosses`); `error_k` of an unknown k is
    |k − k_true| / |k_true|, where it is known.
    """

    known_columns: tuple[str, ...] = ("error", "error_paper")

    def __init__(
        self, problem: Measured, communicator: Communicator, chunks: int, threads: int
    ) -> None:
        self._problem, self._communicator, self._chunks = problem, communicator, chunks
        first, last = share_chunks(chunks, communicator.size)[communicator.rank]
        equations = problem.equations
        with communicator.timer.phase("validation"):
            self._part = communicator.run_on_all(
                lambda: _Part(problem, chunks, first, last, threads)
            )
            self._losses = communicator.run_on_all(
                lambda: TermLosses(problem, communicator, chunks, threads)
            )
            known = communicator.allgather(tuple(self._part.references))
            if len(set(known)) > 1:
                raise InputError(
                    f"{equations.frame.title}.reference is None for a part of the points"
                )
        self._known = known[0]
        self._names = problem.outputs
        check_up_to_constant(equations, self._names)
        paired = ("error_paper",) if len(self._names) == 1 else ()
        each = tuple(f"error_{name}" for name in self._known) if len(self._names) > 1 else ()
        self._errors = ("error", *paired, *each) if self._known else ()
        self._true = {
            name: its.true for name, its in equations.unknowns.items() if its.true is not None
        }
        off = tuple(f"error_{name}" for name in self._true)
        self.columns = (*self._errors, *equations.unknowns, *off, *self._losses.columns)
        self._threads = threads
        # Known when a run has ended: they take a Jacobian.
        self._uncertain: dict[str, Uncertainty] = {}

    def measure(self, theta: Tensor) -> dict[str, float]:
        with self._communicator.timer.phase("validation"):
            losses = self._losses.measure(theta)
            found = self._problem.evaluate_unknowns(theta)
            off = {
                f"error_{name}": abs(found[name] - true) / (abs(true) or 1.0)
                for name, true in self._true.items()
            }
            return {**self._measure_errors(theta), **found, **off, **losses}

    def _measure_errors(self, theta: Tensor) -> dict[str, float]:
        if not self._known:
            return {}
        return self._make_errors(self._sum_errors(theta), self._part.count)

    def _sum_errors(self, theta: Tensor) -> np.ndarray:
        """The sums (k, 5) of `_Part.sums` over all points."""
        sums = self._communicator.sum_leaves(self._part.sums(theta), self._chunks)
        return to_array(sums).reshape(-1, SUMS)

    def _make_errors(self, found: np.ndarray, count: float) -> dict[str, float]:
        """The errors, of sums (k, 5) over points whose weights have the sum `count`."""
        sums = found.tolist()
        errors = {
            name: self._error(name, count, *each)
            for name, each in zip(self._known, sums, strict=True)
        }
        measured = {"error": float(np.max([*errors.values()]))}  # NaN if any is
        if "error_paper" in self.columns:
            measured["error_paper"] = _root_ratio(sums[0][0], sums[0][2], count)
        else:
            measured |= {f"error_{name}": error for name, error in errors.items()}
        return measured

    def evaluate_solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        """The fields at the test points, with their references and the coordinates.

        Standard errors of the unknowns are beside them, NaN where they are not known. Warns, on
        rank 0, of measurements that are overfitted.
        """
        with self._communicator.timer.phase("validation"):
            # Losses take the kernels' constants of all points: of windows of time, which have no
            # measurements, those of one window are in memory at once.
            losses = self._losses.measure(theta) if list_measured(self._problem) else {}
            overfitted = describe_overfitted(self._problem, losses)
            for line in overfitted if self._communicator.is_root else ():
                warnings.warn(line, stacklevel=2)
            predicted = self._part.predictions(theta)
            fields = {
                self._title("prediction", name): self._gather(values)
                for name, values in predicted.items()
            }
            fields |= {
                self._title("reference", name): self._gather(values)
                for name, values in self._part.references.items()
            }
            ranks, chunks, threads = self._communicator, self._chunks, self._threads
            self._uncertain = self._problem.estimate_uncertainties(theta, ranks, chunks, threads)
            for name in self._problem.equations.unknowns:
                each = self._uncertain.get(name)
                pair = (each.standard_error, each.interval) if each else (math.nan, math.nan)
                for prefix, value in zip((STANDARD_ERROR, INTERVAL), pair, strict=True):
                    fields[f"{prefix}{name}"] = np.array(value)
        return fields | self._coordinates()

    def describe_progress(self, values: Mapping[str, float]) -> str:
        words = [f"error {values['error']:.2e}"] if "error" in values else []
        words += [
            f"{name} {values[name]:.6g}"
            for name in self._problem.equations.unknowns
            if name in values
        ]
        return ", ".join(words)

    def describe_values(self, values: Mapping[str, float]) -> str:
        words = []
        if "error_paper" in values:
            words.append(
                f"relative error {values['error']:.3e}"
                f" (divided by |u_NN|: {values['error_paper']:.3e})"
            )
        elif "error" in values:
            each = ", ".join(f"{name} {values[f'error_{name}']:.3e}" for name in self._known)
            words.append(f"largest relative error {values['error']:.3e} ({each})")
        for name in self._problem.equations.unknowns:
            if name in values:
                words.append(self._describe_unknown(name, values))
        losses = [
            f"{n.removeprefix(TERM_LOSS)} {values[n]:.3e}"
            for n in self._losses.columns
            if n in values
        ]
        if losses:
            words.append(f"terms without weights: {', '.join(losses)}")
        return ", ".join(words)

    def _describe_unknown(self, name: str, values: Mapping[str, float]) -> str:
        words = f"{name} = {values[name]:.8g}"
        if name in self._uncertain:
            words += f" ± {self._uncertain[name].interval:.2g}"
        if name in self._true:
            words += f" ({100 * values[f'error_{name}']:.3g} % off)"
        if name in self._uncertain and not self._uncertain[name].is_identified:
            words += " (hardly determined by the residuals)"
        return words

    @staticmethod
    def join_errors(
        pairs: "Sequence[tuple[ErrorMonitor, Tensor]]", sizes: Sequence[float]
    ) -> dict[str, float]:
        """The errors over the parts of a domain, collective.

        Args:
            pairs: the monitor of each part, and its θ (n,).
            sizes: of the parts, whatever numbers of points they have.
        """
        first = pairs[0][0]
        if not first._known:
            return {}
        sums = [
            size / monitor._part.count * monitor._sum_errors(theta)
            for (monitor, theta), size in zip(pairs, sizes, strict=True)
        ]
        return first._make_errors(np.sum(sums, axis=0), math.fsum(sizes))

    def _error(
        self,
        field: str,
        count: float,
        difference: float,
        exact: float,
        _: float,
        off: float,
        mean: float,
    ) -> float:
        """The relative error of a field from its sums, see `_Part.sums`."""
        if field not in self._problem.equations.up_to_constant:
            return _root_ratio(difference, exact, count)
        spread = exact - mean**2 / count
        # That of a constant is the rounding error of the sums.
        return _root_ratio(
            difference - off**2 / count, spread if spread > ROUNDING * exact else 0.0, count
        )

    def _title(self, what: str, field: str) -> str:
        """The name of an array of a field in a run file."""
        return what if len(self._names) == 1 else f"{what}_{field}"

    def _coordinates(self) -> dict[str, np.ndarray]:
        """The axes of the grid, or the coordinates of every point, by name."""
        equations = self._problem.equations
        names, bounds = equations.frame.axes.names, equations.frame.region.bounds
        if equations.grid is None:
            return dict(zip(names, to_array(find_test_points(equations)), strict=True))
        pairs = zip(names, bounds, equations.grid, strict=True)
        return {name: np.linspace(low, high, count) for name, (low, high), count in pairs}

    def _gather(self, local: Tensor) -> np.ndarray:
        counts = self._communicator.allgather(len(local))
        values = to_array(self._communicator.allgather_rows(local, counts))
        grid = self._problem.equations.grid
        return values if grid is None else values.reshape(grid)


class _Part:
    """The test points of one rank: predictions there, references, and sums over its chunks."""

    def __init__(self, problem: Measured, chunks: int, first: int, last: int, threads: int) -> None:
        equations = problem.equations
        points = find_test_points(equations)
        self.count = points.shape[1]
        bounds = [chunk * points.shape[1] // chunks for chunk in range(first, last + 1)]
        points = points[:, bounds[0] : bounds[-1]].contiguous()
        self._bounds = [bound - bounds[0] for bound in bounds]
        self._outputs = Outputs(problem, problem.outputs, points, self._bounds, threads)
        self.references = evaluate_references(equations, problem.outputs, points)

    def predictions(self, theta: Tensor) -> dict[str, Tensor]:
        """Each field and quantity (N,) at this rank's points."""
        return self._outputs.evaluate(theta)

    def sums(self, theta: Tensor) -> Tensor:
        """By chunk (C, 5 k): Σ d², Σ u², Σ u_NN², Σ d, Σ u of each known field, d = u_NN − u."""
        predicted = self.predictions(theta)
        squares = []
        for name, reference in self.references.items():
            u, exact = predicted[name].double(), reference.to(predicted[name].device)
            squares += [(u - exact).square(), exact.square(), u.square(), u - exact, exact]
        return sum_chunks(torch.stack(squares), self._bounds).T.contiguous()


def evaluate_references(
    equations: Equations, outputs: Sequence[str], points: Tensor
) -> dict[str, Tensor]:
    """The true fields and quantities (N,) at points, those that are known.

    Raises:
        ProblemError: what the class gives is no such values.
    """
    place = locate(_name_reference(equations), equations.reference)
    found = _call_reference(equations, outputs, place, points)
    for name, values in found.items():
        called = f"{place}: {name}"
        check_untrainable(equations, equations.reference, called, values, [points])
        step = 1 + len(values) // 32
        again = partial(_call_reference_of, name, equations, outputs, place)
        check_pointwise(again, called, points, values, step)
        _check_finite(equations, called, points, values)
    return {name: values.detach().double() for name, values in found.items()}


def _name_reference(equations: Equations) -> str:
    return f"{equations.frame.title}.reference"


def _call_reference(
    equations: Equations, outputs: Sequence[str], place: str, points: Tensor
) -> dict[str, Tensor]:
    """What the class gives at points, by name; each (N,), with a gradient if it has one."""
    frame, longer = equations.frame, lengthen(points)
    given: Any = guard(equations.reference, _name_reference(equations))(At(frame.axes, longer))
    if given is None:
        return {}
    named = given if isinstance(given, Mapping) else {frame.fields[0]: given}
    for name in named:
        if name not in outputs:
            raise ProblemError(
                f"{place} names {name!r}: fields and quantities are {', '.join(outputs)}"
            )
    like, count = longer[0], points.shape[1]
    return {n: check_values(each, like, f"{place}: {n}")[:count] for n, each in named.items()}


def _call_reference_of(
    name: str, equations: Equations, outputs: Sequence[str], place: str, points: Tensor
) -> Tensor:
    return _call_reference(equations, outputs, place, points)[name]


def _check_finite(equations: Equations, called: str, points: Tensor, values: Tensor) -> None:
    bad = ~values.isfinite()
    if bool(bad.any()):
        raise ProblemError(
            f"{called} is {float(values[bad][0])} at"
            f" {equations.frame.axes.describe(points[:, bad][:, 0])}: it must be finite in the"
            " closed domain"
        )


def _root_ratio(numerator: float, denominator: float, count: float) -> float:
    """√(numerator / denominator); beside a reference of zero the root mean square itself."""
    return math.sqrt(max(numerator, 0.0) / (denominator if denominator > 0 else count))
