"""`hpctrain predict`: the fields of a finished run, and their derivatives, at any points."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import Writer
from hpctrain.problems.outside import Outside
from hpctrain.results.classify import classify
from hpctrain.results.outputs import check_end, make_writer, order_points
from hpctrain.results.points import Points, open_points
from hpctrain.results.samples import Classifier
from hpctrain.results.solution import BLOCK, EXTRAPOLATED, Solution, open_problem
from hpctrain.results.writing import Columns, check_apart, write_blocks
from hpctrain.store.run_file import read_run


def predict(
    run: str,
    points: str,
    output: str,
    names: str | None,
    threads: int,
    changed_code: bool = False,
    at: str | None = None,
    communicator: Communicator | None = None,
) -> str:
    """Evaluates the solution of a run at points, and writes both; says what was done; collective.

    Of a classifier's run it writes the classes of samples, see `classify`. Warns of points at which
    the solution is only extrapolated.

    Args:
        run: a finished run file.
        points: a table with a column a coordinate, a mesh, or a grid "t=0:1:101,x=-1:1:201"; the
            samples of a classifier.
        output: the file that is written.
        names: "u,u.x", by default all fields.
        threads: of the kernels.
        changed_code: evaluates also where the Python file of the equations is not the one that the
            run was made with.
        at: coordinates that the points lack, "t=0.5" or "t=0:1:11".
        communicator: of the ranks that share the points; by default this process alone.

    Raises:
        InputError: something is not as it must be; nothing is written then.
    """
    ranks = communicator or Communicator()

    def open_run() -> tuple[Any, Tensor]:
        check_end(Path(output))
        return open_problem(read_run(run), changed_code, is_announced=ranks.is_root)

    problem, theta = ranks.run_on_all(open_run)
    if isinstance(problem, Classifier):
        _check_unasked(run, fields=names, at=at)
        return classify(run, problem, theta, points, output, ranks)
    return _predict(Solution(problem, theta, threads), run, points, at, output, names, ranks)


def _check_unasked(run: str, **options: str | None) -> None:
    """Refuses what only a solution has."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"--{name} {value} is not allowed: {run} is the run of a classifier")


def _predict(
    solution: Solution,
    run: str,
    points: str,
    at: str | None,
    output: str,
    names: str | None,
    ranks: Communicator,
) -> str:
    """Writes the values of a solution at points; see `predict`."""
    target = Path(output)

    def open_all() -> Points:
        check_apart(target, run, points)
        return order_points(target, open_points(points, at, solution.coordinates))

    places = ranks.run_on_all(open_all)
    wanted = tuple(name.strip() for name in names.split(",")) if names else solution.outputs
    outside = Outside()

    def evaluate(first: int, last: int) -> Columns:
        x = places.read(first, last)
        stacked = np.stack(list(x.values()))
        if not np.isfinite(stacked).all():
            raise InputError(f"{points} has coordinates that are not finite")
        outside.note(solution.find_outside(stacked), x)
        return x | solution.evaluate_columns(stacked, wanted)

    def begin(path: Path, types: Mapping[str, np.dtype]) -> Writer:
        return make_writer(path, places, types)

    write_blocks(ranks, places.count, BLOCK, evaluate, target, begin)
    if said := outside.gather(ranks).describe(places.count):
        warnings.warn(f"{points}: {said}: {EXTRAPOLATED}", stacklevel=2)
    return f"{output}: {', '.join(wanted)} at {places.count} points"
