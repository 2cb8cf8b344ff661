"""Figures of runs: the solution and convergence of one, the convergence of several compared."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpctrain.results import field_figure, fields, style
from hpctrain.results.costs import COSTS, RECORDED
from hpctrain.results.measures import Measure, list_measures
from hpctrain.results.slices import Fixed, make_slice
from hpctrain.results.solution import Solution, open_solution
from hpctrain.results.stages import find_ends
from hpctrain.results.summary import StudyError, Summary, tell_apart
from hpctrain.store.run_file import TERM_LOSS, Run, read_run


def plot(paths: Iterable[Path | str], output: Path | str, width: str | None = None) -> None:
    """Draws the runs in these files into `output` (png, pdf or svg).

    One run: its solution on its grid, where it has one, with reference and error, over loss and
    error against training time and gradient evaluations. Several, or one of a classifier: loss and
    error or accuracy of all against iterations, epochs, gradient evaluations, work and time. Thin
    vertical lines are where one solver followed another.

    Args:
        width: "single" or "double", a journal's column or two, for the convergence alone.

    Raises:
        InputError: no runs, a file is not one, or `output` cannot be drawn.
    """
    output = Path(output)
    style.check_output(output)
    runs = [read_run(path) for path in paths]
    if not runs:
        raise StudyError(f"{output}: no runs were given to draw")
    style.save(draw_in_width(runs, width), output)


def plot_fields(
    path: str, output: str, fields: str, at: str | None, width: str | None, threads: int, code: bool
) -> None:
    """Draws fields of a run for print: values, errors, residuals, unknowns and stages.

    Args:
        fields: "u,v,u.x".
        at: coordinates that do not vary, "z=0.5".
        width: "single" or "double", by default double.
        threads: of the kernels.
        code: evaluates also where a Python file of the job is not the one of the run.

    Raises:
        InputError: the run has not ended, has no such fields, or `output` cannot be drawn.
    """
    style.check_output(Path(output))
    solution = open_solution(path, threads, code)
    style.save(draw_fields(read_run(path), solution, fields, at, width), Path(output))


def draw_fields(
    run: Run,
    solution: Solution,
    fields: str | Sequence[str],
    at: Fixed | None,
    width: str | None,
) -> Figure:
    """Draws the figure that `plot_fields` saves, of a run and its solution.

    Args:
        fields: "u,v,u.x", or a list of these names.
        at: coordinates that do not vary, "z=0.5" or {"z": 0.5}.
        width: see `plot_fields`.

    Raises:
        InputError: there are no such fields, or coordinates.
    """
    names = [name.strip() for name in fields.split(",")] if isinstance(fields, str) else fields
    if not isinstance(names, Sequence) or not names:
        raise StudyError(f"fields = {fields!r} is not allowed: 'u,u.x', or a list of such names")
    return field_figure.draw(run, make_slice(solution, at), names, width or "double")


def draw_in_width(runs: Sequence[Run], width: str | None) -> Figure:
    """Draws runs at the width of a journal, or as they are looked at on a screen for None."""
    return draw(runs) if width is None else draw_for_print(runs, width)


def draw_for_print(runs: Sequence[Run], width: str) -> Figure:
    """Draws the convergence of runs, at the width of a journal."""
    costs = ("iteration",) if width == "single" else ("iteration", "seconds")
    inches = style.WIDTHS[width] / style.MM_PER_INCH
    quantities = _name_quantities(runs)
    if not quantities:
        raise StudyError(f"{runs[0].path}: nothing is recorded yet")
    with matplotlib.rc_context(style.PRINTED):
        height = 0.62 * len(quantities) * inches / len(costs) + 0.15 * len(runs)
        figure = style.make_figure(inches, height)
        _draw_panels(figure, runs, costs, quantities, 2 if width == "single" else 4)
    return figure


def draw(runs: Sequence[Run]) -> Figure:
    """Draws the figure that `plot` saves, of at least one run."""
    with matplotlib.rc_context(style.SETTINGS):
        several = len(runs) > 1 or any(each.rises for each in _list_measures(runs))
        return _draw_several_runs(runs) if several else _draw_one_run(runs[0])


def draw_solution(run: Run) -> Figure | None:
    """Draws what a run file has of its solution; None where it is on no grid of a figure."""
    if run.solution is None or not fields.can_draw(run.solution):
        return None
    with matplotlib.rc_context(style.SETTINGS):
        figure = style.make_figure(9.5, 2.7 * len(fields.list_fields(run.solution)))
        fields.draw(figure, run.solution)
    return figure


def _draw_one_run(run: Run) -> Figure:
    costs = ("seconds", "gradient_evaluations")
    if fields.can_draw(run.solution) and run.solution is not None:
        figure = style.make_figure(9.5, 5.4)
        above, below = np.ravel(figure.subfigures(2, 1, squeeze=False))
        fields.draw(above, run.solution)
    else:
        figure = style.make_figure(7.5, 3)
        below = figure.subfigures(1, 1)
    summary = Summary(run)
    figure.suptitle(f"{summary.problem}, {summary.solver}: {run.stop_reason}", fontsize=10)
    for axes, cost in zip(below.subplots(1, 2), costs, strict=True):
        quantities = _name_quantities([run]) | _name_term_losses(summary)
        for index, (quantity, name) in enumerate(quantities.items()):
            _draw_line(axes, run, cost, quantity, name, index)
        _draw_stage_ends(axes, run, cost, "0.4")
        for measure in _list_measures([run]):
            draw_target(axes, [summary], measure)
        axes.set(xlabel=COSTS[cost].axis, yscale="log")
        if axes.lines:
            axes.legend()
    return figure


def _draw_several_runs(runs: Sequence[Run]) -> Figure:
    quantities = _name_quantities(runs)
    legend_rows = -(-len(runs) // 4)
    figure = style.make_figure(11, 2.5 * len(quantities) + 0.2 * legend_rows)
    has_epochs = any(np.isfinite(_read_column(run, "epoch")).any() for run in runs)
    costs = [cost for cost in RECORDED if cost != "epoch" or has_epochs]
    _draw_panels(figure, runs, costs, quantities, 4)
    return figure


def _draw_panels(
    figure: Figure,
    runs: Sequence[Run],
    costs: Sequence[str],
    quantities: Mapping[str, str],
    columns: int,
) -> None:
    """A row of panels for each quantity, a column for each cost; one legend of so many columns."""
    labels = tell_apart([Summary(run).solver for run in runs], [run.path for run in runs])
    linear = [measure.column for measure in _list_measures(runs) if measure.rises]
    grid = figure.subplots(len(quantities), len(costs), sharey="row", squeeze=False)
    for panels, quantity in zip(grid, quantities, strict=True):
        for axes, cost in zip(panels, costs, strict=True):
            _draw_panel(axes, runs, labels, cost, quantity)
            axes.set_yscale("linear" if quantity in linear else "log")
        panels[0].set_ylabel(quantities[quantity])
    _name_lines(figure, grid[:, 0], columns)


def _draw_panel(
    axes: Axes, runs: Sequence[Run], labels: Sequence[str], cost: str, quantity: str
) -> None:
    """A line for each run, where its stages ended, and where all were to stop."""
    for index, (run, label) in enumerate(zip(runs, labels, strict=True)):
        _draw_line(axes, run, cost, quantity, label, index)
        _draw_stage_ends(axes, run, cost, style.choose_line_style(index)["color"])
    for measure in _list_measures(runs):
        if measure.column == quantity:
            draw_target(axes, [Summary(run) for run in runs], measure)
    axes.set_xlabel(COSTS[cost].axis)


def _name_lines(figure: Figure, panels: Iterable[Axes], columns: int) -> None:
    """One legend for all lines of some panels."""
    lines = [line for axes in panels for line in axes.lines]
    named = {str(line.get_label()): line for line in lines}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns)


def _draw_stage_ends(axes: Axes, run: Run, cost: str, colour: str) -> None:
    """Draws thin vertical lines where a stage ended and another one followed."""
    places, whole = _read_column(run, cost)[find_ends(run)], axes.get_xaxis_transform()
    axes.vlines(places, 0, 1, color=colour, linewidth=0.6, alpha=0.6, transform=whole)


def draw_target(axes: Axes, summaries: Sequence[Summary], measure: Measure) -> None:
    """Draws where the runs were to stop by a measure, if they were all to stop there."""
    targets = {summary.find_asked(measure) for summary in summaries}
    target = targets.pop() if len(targets) == 1 else None
    if target is not None:
        label = f"stop.{measure.key}"
        axes.axhline(target, color="0.4", linewidth=0.8, linestyle=":", label=label)


def _list_measures(runs: Sequence[Run]) -> list[Measure]:
    """The measures that at least one of the runs has values of."""
    return [each for each in list_measures() if _is_known(runs, each.column)]


def _name_quantities(runs: Sequence[Run]) -> dict[str, str]:
    """Column → name on an axis, of what at least one of the runs has values of."""
    loss = {"loss": "loss"} if _is_known(runs, "loss") else {}
    return loss | {each.column: each.axis for each in _list_measures(runs)}


def _name_term_losses(summary: Summary) -> dict[str, str]:
    """Column → name in a legend, of the losses of the terms where there are several."""
    return {f"{TERM_LOSS}{term}": f"loss of {term}" for term in summary.list_terms()}


def _is_known(runs: Sequence[Run], name: str) -> bool:
    return any(np.isfinite(_read_column(run, name)).any() for run in runs)


def _read_column(run: Run, name: str) -> np.ndarray:
    """A history column, or NaN where the run has none."""
    return run.history.get(name, np.full(len(run.history["iteration"]), np.nan))


def _draw_line(axes: Axes, run: Run, cost: str, quantity: str, label: str, index: int) -> None:
    """The values that there are; a few of them are marked as points."""
    x, y = _read_column(run, cost), _read_column(run, quantity)
    known = np.isfinite(x) & np.isfinite(y)
    marker = "o" if np.count_nonzero(known) < 12 else ""
    axes.plot(
        x[known], y[known], marker=marker, ms=3, label=label, **style.choose_line_style(index)
    )
