"""`hpctrain predict`: the fields of a finished run, and their derivatives, at any points."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.job.own_code import announce, check_unchanged, list_own_files
from hpctrain.job.settings import parse_job
from hpctrain.kernels import find_dtype
from hpctrain.linalg.arrays import CPU, to_array, to_tensor
from hpctrain.problems.data.tables import ALLOWED, ENDS, read_table, write_table
from hpctrain.store.run_file import read_run

# Points that are evaluated at a time.
BLOCK = 1 << 16


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

    def describe_outside(self, points: Tensor) -> str:
        """How many of the points (d, N) lie where nothing was trained; empty for none."""


def predict(
    run: str,
    points: str,
    output: str,
    names: str | None,
    threads: int,
    changed_code: bool = False,
) -> str:
    """Evaluates the solution of a run at points, and writes a table of both; says what was done.

    Warns of points at which the solution is only extrapolated.

    Args:
        run: a finished run file.
        points: a table with a column a coordinate, or a grid "t=0:1:101,x=-1:1:201", "t=0.5,…".
        output: the table that is written.
        names: "u,u.x", by default all fields.
        threads: of the kernels.
        changed_code: evaluates also where the Python file of the equations is not the one that the
            run was made with.

    Raises:
        InputError: something is not as it must be; nothing is written then.
    """
    if Path(output).suffix not in ENDS:
        raise InputError(f"-o {output} is not allowed: its name must end in {ALLOWED}")
    problem, theta = _open(run, changed_code)
    wanted = tuple(name.strip() for name in names.split(",")) if names else problem.outputs
    columns = _read_points(points, problem.coordinates)
    x = to_tensor(np.stack([columns[name] for name in problem.coordinates]))
    if outside := problem.describe_outside(x):
        warnings.warn(f"{points}: {outside}: it is extrapolated there", stacklevel=2)
    found: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for block in x.split(BLOCK, dim=1):
        values = problem.evaluate(theta, block, wanted, threads)
        for name in wanted:
            found[name].append(to_array(values[name]))
    table = columns | {name: np.concatenate(parts) for name, parts in found.items()}
    try:
        write_table(Path(output), table)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error}") from error
    return f"{output}: {', '.join(wanted)} at {x.shape[1]} points"


def _open(run: str, changed_code: bool) -> tuple[Evaluable, Tensor]:
    """The problem of a run, and its final parameters."""
    kept = read_run(run)
    if kept.parameters is None:
        raise InputError(f"{run}: the run has not ended, its parameters are not known: resume it")
    job = parse_job(kept.job, run)
    own = list_own_files(job)
    if not changed_code:
        check_unchanged(own, kept.own_code, Path(run))
    announce(own)
    problem = job.problem.make(job.network, job.seed, job.precision, CPU)
    if not isinstance(problem, Evaluable):
        raise InputError(f"{run}: the solution of a {job.problem.name} problem has no points")
    return problem, to_tensor(kept.parameters).to(find_dtype(job.precision))


def _read_points(points: str, coordinates: Sequence[str]) -> dict[str, np.ndarray]:
    """A column (N,) for each coordinate.

    Raises:
        InputError: it is no table or grid, or lacks a coordinate.
    """
    if Path(points).suffix in ENDS:
        try:
            columns = read_table(Path(points))
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{points} cannot be read: {reason}") from error
    else:
        columns = _make_grid(points)
    needed = ", ".join(coordinates)
    if missing := [name for name in coordinates if name not in columns]:
        raise InputError(f"{points} has no column {missing[0]}: it must have {needed}")
    found = {name: np.asarray(columns[name], np.float64) for name in coordinates}
    if len({each.shape for each in found.values()}) != 1 or found[coordinates[0]].ndim != 1:
        raise InputError(f"{points} must have columns of one length for {needed}")
    if not all(np.isfinite(each).all() for each in found.values()):
        raise InputError(f"{points} has coordinates that are not finite")
    return found


def _make_grid(text: str) -> dict[str, np.ndarray]:
    """The points of "t=0:1:101,x=0.5", the last coordinate running fastest."""
    axes = {}
    for part in text.split(","):
        name, _, given = part.partition("=")
        try:
            numbers = [float(each) for each in given.split(":")]
            low, high, count = numbers if len(numbers) == 3 else (*numbers, *numbers, 1)
            if not (count == int(count) >= 1 and all(map(math.isfinite, numbers))):
                raise ValueError
        except ValueError:
            raise InputError(
                f"points {text!r} are not allowed: a table ({ALLOWED}), or a grid such as"
                " t=0:1:101,x=-1:1:201 (low:high:count, or one number)"
            ) from None
        axes[name.strip()] = np.linspace(low, high, int(count))
    grids = np.meshgrid(*axes.values(), indexing="ij")
    return {name: grid.ravel() for name, grid in zip(axes, grids, strict=True)}
