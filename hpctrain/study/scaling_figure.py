"""Draws the results of a scaling study: speed-up or efficiency, and the shares of the time."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from hpctrain.results import style
from hpctrain.study.scaling_rows import Scaling
from hpctrain.study.stretch import SHARES


def draw(scaling: Scaling, output: Path) -> None:
    """Draws a figure into a file: measured points filled, projected ones hollow, shares as bars."""
    with matplotlib.rc_context(style.SETTINGS):
        figure = style.make_figure(8.0, 3.4)
        left, right = figure.subplots(1, 2)
        _draw_curve(left, scaling)
        _draw_bars(right, scaling)
        style.save(figure, output)


def _draw_curve(axes: Axes, scaling: Scaling) -> None:
    """Draws S_P against P for strong scaling, or the efficiency for weak scaling."""
    ranks = [row.ranks for row in scaling.rows]
    values = [row.efficiency if scaling.weak else row.speed_up for row in scaling.rows]
    ideal = np.ones(len(ranks)) if scaling.weak else ranks
    axes.plot(ranks, ideal, color="0.5", linewidth=0.8, linestyle=":", label="ideal")
    axes.plot(ranks, values, color=style.COLOURS[0], zorder=1)
    for measured, fill in ((True, style.COLOURS[0]), (False, "white")):
        chosen = [i for i, row in enumerate(scaling.rows) if row.measured is measured]
        if chosen:
            x, y = ([each[i] for i in chosen] for each in (ranks, values))
            label = "measured" if measured else "projected"
            axes.scatter(x, y, s=28, facecolor=fill, edgecolor=style.COLOURS[0], label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(P) for P in ranks])
    axes.minorticks_off()
    axes.set_xlabel("ranks")
    if scaling.weak:
        axes.set(ylabel="efficiency", ylim=(0, 1.1))
    else:
        axes.set_yscale("log", base=2)
        axes.set(ylabel="speed-up")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()


def _draw_bars(axes: Axes, scaling: Scaling) -> None:
    """Draws stacked shares of the time for each rank count; hatched where they are projected."""
    places = np.arange(len(scaling.rows))
    totals = np.array([sum(row.shares.values()) for row in scaling.rows])
    hatches = ["" if row.measured else "//" for row in scaling.rows]
    base = np.zeros(len(places))
    for name, colour in zip(SHARES, style.COLOURS, strict=False):
        parts = np.array([row.shares[name] for row in scaling.rows]) / totals
        axes.bar(places, parts, bottom=base, color=colour, label=name, hatch=hatches,
                 edgecolor="white", linewidth=0)  # fmt: skip
        base += parts
    axes.set_xticks(places, [str(row.ranks) for row in scaling.rows])
    axes.set(xlabel="ranks (hatched: projected)", ylabel="share of time", ylim=(0, 1))
    axes.legend(loc="lower center", ncols=2, frameon=True)
