"""Draws a comparison: the convergence of each job as the mean and the range over its seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpctrain.results import style
from hpctrain.results.costs import COSTS
from hpctrain.results.figures import draw_target
from hpctrain.results.measures import Measure
from hpctrain.study.seeds import SeedRuns

# A panel whose lines end at costs further apart than this has a logarithmic axis.
LINEAR_RATIO = 20


class Band(NamedTuple):
    """The mean and the range of several curves, at the same abscissae x."""

    x: np.ndarray
    mean: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def draw(groups: Sequence[SeedRuns], output: Path) -> None:
    """Draws the errors or accuracies of these jobs, or their losses where nothing else is known."""
    with matplotlib.rc_context(style.SETTINGS):
        style.save(_draw_figure(groups), output)


def find_band(curves: Sequence[tuple[np.ndarray, np.ndarray]], logarithmic: bool = True) -> Band:
    """Computes the mean and the range of positive curves (x, y).

    They are taken at every x of a curve, from where all curves have begun. A curve is linear
    between its own x, in log y or in y, and keeps its last y after its end.

    Args:
        curves: the abscissae and ordinates of each.
        logarithmic: whether a curve is linear in log y.
    """
    x = np.unique(np.concatenate([x for x, _ in curves]))
    x = x[x >= max(x[0] for x, _ in curves)]
    if logarithmic:
        y = np.exp([np.interp(x, own_x, np.log(own_y)) for own_x, own_y in curves])
    else:
        y = np.array([np.interp(x, own_x, own_y) for own_x, own_y in curves])
    return Band(x, y.mean(axis=0), y.min(axis=0), y.max(axis=0))


def _draw_figure(groups: Sequence[SeedRuns]) -> Figure:
    measure = groups[0].measure
    shown = measure if _is_known(groups, measure.column) else None
    # Epochs, where they are known, say more than update costs.
    left_out = "update_cost" if _is_known(groups, "epoch") else "epoch"
    costs = {name: cost.axis for name, cost in COSTS.items() if name != left_out}
    figure = style.make_figure(9.5, 5.4)
    panels = figure.subplots(2, 3, sharey=True)
    for axes, (cost, name) in zip(panels.flat, costs.items(), strict=False):
        _draw_panel(axes, groups, cost, shown)
        axes.set_xlabel(name)
    for axes in panels[:, 0]:
        axes.set_ylabel(shown.axis if shown else "loss")
    _draw_legend(panels[1, 2], panels[0, 0], groups)
    return figure


def _draw_panel(axes: Axes, groups: Sequence[SeedRuns], cost: str, measure: Measure | None) -> None:
    """Draws a measure, or the loss, against a cost."""
    quantity = measure.column if measure else "loss"
    logarithmic = measure is None or not measure.rises
    bands = {}
    for index, group in enumerate(groups):
        curves = [_read_curve(summary, cost, quantity) for summary in group.runs]
        curves = [curve for curve in curves if len(curve[0])]
        if curves:
            bands[index] = find_band(curves, logarithmic)
    ends = [drawn.x[-1] for drawn in bands.values()]
    wide = bool(ends) and max(ends) > LINEAR_RATIO * min(ends) > 0
    for index, drawn in bands.items():
        shown = drawn.x > 0 if wide else slice(None)
        x, mean, lowest, highest = (values[shown] for values in drawn)
        look = style.choose_line_style(index)
        axes.plot(x, mean, label=groups[index].label, **look)
        axes.fill_between(x, lowest, highest, color=look["color"], alpha=0.2, linewidth=0)
    if measure is not None:
        draw_target(axes, [summary for group in groups for summary in group.runs], measure)
    scale = "log" if logarithmic else "linear"
    axes.set(yscale=scale, xscale="log" if wide else "linear")


def _read_curve(summary, cost: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = map(summary.read_column, (cost, quantity))
    known = np.isfinite(x) & np.isfinite(y) & (y > 0)
    return x[known], y[known]


def _is_known(groups: Sequence[SeedRuns], quantity: str) -> bool:
    return any(np.isfinite(s.read_column(quantity)).any() for group in groups for s in group.runs)


def _draw_legend(empty: Axes, drawn: Axes, groups: Sequence[SeedRuns]) -> None:
    """Draws the legend into the panel that is left over."""
    empty.axis("off")
    handles, labels = drawn.get_legend_handles_labels()
    seeds = max(len(group.runs) for group in groups)
    many = f"mean and range over {seeds} seeds;\na run that ended keeps its last value"
    empty.legend(handles, labels, title=many if seeds > 1 else None, loc="center", title_fontsize=8)
