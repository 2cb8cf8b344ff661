"""The solution of a run: its problem and its final parameters, to be asked for at any points."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.job.own_code import announce, check_unchanged, list_own_files
from hpctrain.job.settings import Job, parse_job
from hpctrain.kernels import find_dtype
from hpctrain.linalg.arrays import CPU, to_array, to_tensor
from hpctrain.problems.outside import Outside
from hpctrain.store.run_file import Run, read_run

# Points that are evaluated at a time.
BLOCK = 1 << 15
# What becomes of points outside of the geometry.
EXTRAPOLATED = "the solution is extrapolated there"


@runtime_checkable
class Evaluable(Protocol):
    """A problem whose solution can be asked for at any points.

    Attributes:
        coordinates: names of what a point has.
        outputs: names of what is known there.
    """

    coordinates: tuple[str, ...]
    outputs: tuple[str, ...]

    def evaluate(
        self, theta: Tensor, points: Tensor, names: Sequence[str], threads: int
    ) -> dict[str, Tensor]:
        """Fields or their derivatives (N,) at points (d, N), by names such as "u" and "u.x"."""

    def find_outside(self, points: Tensor) -> Tensor:
        """Which of the points (d, N) lie where nothing was trained, (N,)."""


@dataclass(frozen=True)
class Solution:
    """Fields, their derivatives and quantities as functions of the coordinates.

    Attributes:
        problem: equations with a network.
        theta: its parameters (n,), in the problem's precision.
        threads: of the kernels.
    """

    problem: Evaluable
    theta: Tensor
    threads: int = 1

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of what a point has."""
        return self.problem.coordinates

    @property
    def outputs(self) -> tuple[str, ...]:
        """The fields, then the quantities."""
        return self.problem.outputs

    def evaluate(
        self, points: Mapping[str, Any], names: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Values by name at points, a block after the other, so that little memory is needed.

        Warns of points outside of the geometry.

        Args:
            points: numbers for each coordinate, of shapes that broadcast to one: (N,) for points,
                {"t": t[:, None], "x": x} for a grid.
            names: "u", "u.x", …; by default all fields and quantities.

        Returns:
            an array of that one shape for each name.

        Raises:
            InputError: there is no such name, a coordinate is missing or not finite.
        """
        wanted = tuple(names) or self.outputs
        columns = self._broadcast(points)
        shape = columns[0].shape
        found: dict[str, np.ndarray] = {}
        outside = Outside()
        for start, x in _cut_into_blocks(columns):
            outside.note(self.find_outside(x), dict(zip(self.coordinates, x, strict=True)))
            for name, each in self.evaluate_columns(x, wanted).items():
                whole = found.setdefault(name, np.empty(math.prod(shape), each.dtype))
                whole[start : start + len(each)] = each
        if said := outside.describe(math.prod(shape)):
            warnings.warn(f"{said}: {EXTRAPOLATED}", stacklevel=3)
        return {name: found[name].reshape(shape) for name in wanted}

    def evaluate_columns(self, x: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Values (N,) by name at points (d, N), all of them at once.

        Raises:
            InputError: there is no such name.
        """
        for name in names:
            if not isinstance(name, str):
                example = f"a name such as {self.outputs[0]!r}"
                raise InputError(f"{name!r} is not allowed among fields: {example}")
        values = self.problem.evaluate(self.theta, to_tensor(x), names, self.threads)
        return {name: to_array(values[name]) for name in names}

    def find_outside(self, x: np.ndarray) -> np.ndarray:
        """Which of the points (d, N) lie where nothing was trained, (N,)."""
        return to_array(self.problem.find_outside(to_tensor(x)))

    def _broadcast(self, points: Mapping[str, Any]) -> list[np.ndarray]:
        """A view of one shape for each coordinate."""
        needed = ", ".join(self.coordinates)
        if unknown := [name for name in points if name not in self.coordinates]:
            raise InputError(f"points have no coordinate {unknown[0]!r}: allowed are {needed}")
        if missing := [name for name in self.coordinates if name not in points]:
            raise InputError(f"points lack the coordinate {missing[0]}: they must have {needed}")
        try:
            columns = [np.asarray(points[name], np.float64) for name in self.coordinates]
            broadcast = np.broadcast_arrays(*columns)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"points must be numbers of shapes that fit, for each of {needed}: {error}"
            ) from error
        if not all(np.isfinite(each).all() for each in columns):
            raise InputError("points have coordinates that are not finite")
        return list(broadcast)


def open_solution(
    run: str | Path, threads: int = 1, changed_code: bool = False, is_announced: bool = True
) -> Solution:
    """Opens the solution in the run file of a run that has ended.

    Args:
        threads: of the kernels.
        changed_code: opens also where the Python file of the equations is not the one that the run
            was made with.
        is_announced: says which files of the user's own are run.

    Raises:
        InputError: there is no such run, it goes on, or its problem has no points.
    """
    return make_solution(run, *open_problem(read_run(run), changed_code, is_announced), threads)


def make_solution(run: str | Path, problem: Any, theta: Tensor, threads: int) -> Solution:
    """Makes the solution of a run's problem with its final parameters θ (n,).

    Raises:
        InputError: the problem has no points.
    """
    if not isinstance(problem, Evaluable):
        raise InputError(
            f"{run}: the run of a classifier has no solution at points: `hpctrain predict` gives"
            " classes, and Result.network probabilities"
        )
    return Solution(problem, theta, threads)


def open_problem(
    run: Run, changed_code: bool = False, is_announced: bool = True, job: Job | None = None
) -> tuple[Any, Tensor]:
    """Opens the problem of a run that has ended, and its final parameters.

    Args:
        changed_code, is_announced: see `open_solution`.
        job: the run's, with the classes that Python gave it; by default what its file has of it.

    Raises:
        InputError: see `open_solution`.
    """
    parameters = find_parameters(run)
    job = job or parse_job(run.job, str(run.path))
    own = list_own_files(job)
    if not changed_code:
        check_unchanged(own, run.own_code, run.path)
    if is_announced:
        announce(own)
    problem = job.problem.make(job.network, job.seed, job.precision, CPU)
    return problem, to_tensor(parameters).to(find_dtype(job.precision))


def find_parameters(run: Run) -> np.ndarray:
    """Finds the final parameters (n,) of a run.

    Raises:
        InputError: it has not ended.
    """
    if run.parameters is None:
        raise InputError(
            f"{run.path}: the run has not ended, its parameters are not known: resume it"
        )
    return run.parameters


def _cut_into_blocks(columns: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """The number of a block's first point, and its points (d, N); one block where are none."""
    for start in range(0, max(columns[0].size, 1), BLOCK):
        yield start, np.stack([each.flat[start : start + BLOCK] for each in columns])
