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
from hpctrain.results.classify import classify
from hpctrain.results.outputs import check_end, make_writer, order_points
from hpctrain.results.points import Points, open_points
from hpctrain.results.samples import Classifier
from hpctrain.results.solution import BLOCK, Solution, open_problem
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
    outside = _Outside()

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
    if said := outside.describe(ranks, places.count):
        warnings.warn(f"{points}: {said}", stacklevel=2)
    return f"{output}: {', '.join(wanted)} at {places.count} points"


class _Outside:
    """Notes which of some points lie where nothing was trained."""

    def __init__(self) -> None:
        self._count = 0
        self._such = ""

    def note(self, outside: np.ndarray, x: Columns) -> None:
        """Takes more points: which are outside (N,), and their coordinates."""
        places = np.flatnonzero(outside)
        self._count += len(places)
        if len(places) and not self._such:
            self._such = ", ".join(
                f"{n} = {float(values[places[0]]):.6g}" for n, values in x.items()
            )

    def describe(self, ranks: Communicator, count: int) -> str:
        """How many of all are, for rank 0; empty for none, and on other ranks."""
        found = ranks.gather((self._count, self._such)) or []
        outside = sum(number for number, _ in found)
        such = next((such for _, such in found if such), "")
        lie = "points lies" if outside == 1 else "points lie"
        said = f"{outside} of {count} {lie} outside of the geometry, such as {such}"
        return f"{said}: it is extrapolated there" if outside else ""
