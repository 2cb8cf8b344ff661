"""Figures of runs: the solution and convergence of one, the convergence of several compared."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpctrain.results import fields, style
from hpctrain.results.summary import StudyError, Summary
from hpctrain.store.run_file import Run, read_run

# History column → its name on an axis.
QUANTITIES = {"loss": "loss", "error": "relative error", "test_accuracy": "test accuracy"}
COSTS = {
    "iteration": "iterations",
    "epoch": "epochs",
    "gradient_evaluations": "gradient evaluations",
    "update_cost": "work (update cost)",
    "seconds": "training time in s",
}


def plot(paths: Iterable[Path | str], output: Path | str) -> None:
    """Draw the runs in these files into `output` (png or pdf).

    One run: its solution on its grid, where it has one, with reference and error, over loss and
    error against training time and gradient evaluations. Several, or one of a classifier: loss and
    error or accuracy of all against iterations, epochs, gradient evaluations, work and time.

    Raises:
        StudyError: no runs, or `output` has another suffix.
        RunFileError: a file is not a run.
    """
    output = Path(output)
    style.check_suffix(output)
    runs = [read_run(path) for path in paths]
    if not runs:
        raise StudyError(f"{output}: no runs were given to draw")
    with matplotlib.rc_context(style.SETTINGS):
        several = len(runs) > 1 or "test_accuracy" in _quantities(runs)
        figure = _several_runs(runs) if several else _one_run(runs[0])
    style.save(figure, output)


def _one_run(run: Run) -> Figure:
    costs = ("seconds", "gradient_evaluations")
    if fields.can_draw(run.solution) and run.solution is not None:
        figure = style.new_figure(9.5, 5.4)
        above, below = np.ravel(figure.subfigures(2, 1, squeeze=False))
        fields.draw(above, run.solution)
    else:
        figure = style.new_figure(7.5, 3)
        below = figure.subfigures(1, 1)
    summary = Summary(run)
    figure.suptitle(f"{summary.problem}, {summary.solver}: {run.stop_reason}", fontsize=10)
    for axes, cost in zip(below.subplots(1, 2), costs, strict=True):
        for index, quantity in enumerate(_quantities([run])):
            _line(axes, run, cost, quantity, QUANTITIES[quantity], index)
        axes.set(xlabel=COSTS[cost], yscale="log")
        if axes.lines:
            axes.legend()
    return figure


def _several_runs(runs: Sequence[Run]) -> Figure:
    quantities = _quantities(runs)
    legend_rows = -(-len(runs) // 4)
    figure = style.new_figure(11, 2.5 * len(quantities) + 0.2 * legend_rows)
    has_epochs = any(np.isfinite(_column(run, "epoch")).any() for run in runs)
    costs = [cost for cost in COSTS if cost != "epoch" or has_epochs]
    grid = figure.subplots(len(quantities), len(costs), sharey="row", squeeze=False)
    for panels, quantity in zip(grid, quantities, strict=True):
        for axes, cost in zip(panels, costs, strict=True):
            for index, (run, label) in enumerate(zip(runs, _labels(runs), strict=True)):
                _line(axes, run, cost, quantity, label, index)
            axes.set_xlabel(COSTS[cost])
            if quantity != "test_accuracy":
                axes.set_yscale("log")
        panels[0].set_ylabel(QUANTITIES[quantity])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _quantities(runs: Sequence[Run]) -> list[str]:
    """The quantities that at least one of the runs has values of."""
    return [
        name for name in QUANTITIES if any(np.isfinite(_column(run, name)).any() for run in runs)
    ]


def _column(run: Run, name: str) -> np.ndarray:
    """A history column, or NaN where the run has none."""
    return run.history.get(name, np.full(len(run.history["iteration"]), np.nan))


def _line(axes: Axes, run: Run, cost: str, quantity: str, label: str, index: int) -> None:
    """The values that there are; a few of them are marked as points."""
    x, y = _column(run, cost), _column(run, quantity)
    known = np.isfinite(x) & np.isfinite(y)
    marker = "o" if np.count_nonzero(known) < 12 else ""
    axes.plot(x[known], y[known], marker=marker, ms=3, label=label, **style.line_style(index))


def _labels(runs: Sequence[Run]) -> list[str]:
    """The solvers' names, with the files' where a solver comes twice."""
    solvers = [Summary(run).solver for run in runs]
    return [
        name if solvers.count(name) == 1 else f"{name} ({run.path.stem})"
        for name, run in zip(solvers, runs, strict=True)
    ]
