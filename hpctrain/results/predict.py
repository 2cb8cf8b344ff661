"""`hpctrain predict`: the fields of a finished run, and their derivatives, at any points."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.problems.data.tables import ALLOWED, ENDS, read_table, write_table
from hpctrain.results.solution import open_solution


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
    solution = open_solution(run, threads, changed_code)
    wanted = tuple(name.strip() for name in names.split(",")) if names else solution.outputs
    columns = _read_points(points, solution.coordinates)
    x = np.stack([columns[name] for name in solution.coordinates])
    if outside := solution.describe_outside(x):
        warnings.warn(f"{points}: {outside}: it is extrapolated there", stacklevel=2)
    table = columns | solution.evaluate(columns, wanted)
    try:
        write_table(Path(output), table)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error}") from error
    return f"{output}: {', '.join(wanted)} at {x.shape[1]} points"


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
