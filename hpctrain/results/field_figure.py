"""A figure of one run for print: fields, errors, residuals, points, unknowns and stages."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from hpctrain.linalg.randomness import make_generator
from hpctrain.results import style
from hpctrain.results.slices import Slice
from hpctrain.results.stages import find_stages
from hpctrain.store.run_file import INTERVAL, Run

# What fills a panel.
Panel = Callable[[Axes], None]
# Points that are drawn, at most.
DRAWN_POINTS = 3000
# The smallest residual that is told apart on the colour scale, as a share of the largest.
SHOWN_RANGE = 1e-4
# The height of a panel by its width.
ASPECT = 0.82


def draw(run: Run, region: Slice, names: Sequence[str], width: str) -> Figure:
    """Draws the figure of a run.

    Args:
        region: where its solution is shown.
        names: of fields, their derivatives or quantities.
        width: "single" or "double", a journal's column or two.
    """
    with matplotlib.rc_context(style.PRINTED):
        panels = [*_list_panels(run, region, names)]
        columns = 1 if width == "single" else _choose_columns(len(panels))
        rows = math.ceil(len(panels) / columns)
        inches = style.WIDTHS[width] / style.MM_PER_INCH
        figure = style.make_figure(inches, rows * ASPECT * inches / columns)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for number, axes in enumerate(grid):
            if number >= len(panels):
                axes.set_axis_off()
                continue
            panels[number](axes)
            letter = f"({chr(ord('a') + number)})" if len(panels) > 1 else ""
            axes.set_title(f"{letter} {axes.get_title()}".strip(), loc="left")
            axes.set_title("")
        return figure


def _choose_columns(panels: int) -> int:
    """At most three, so that few places stay empty."""
    return 2 if panels in (2, 4) else min(3, panels)


def _list_panels(run: Run, region: Slice, names: Sequence[str]) -> Iterator[Panel]:
    values, true = region.evaluate(names), region.evaluate_references()
    for name in names:
        yield _show_values(region, name, values[name], true.get(name))
        if name in true:
            yield _show_error(region, name, values[name] - true[name])
    for name, residual in region.evaluate_residuals().items():
        yield _show_residual(region, name, np.abs(residual))
    if not region.fixed:
        yield _show_points(region, region.find_first_points())
    for name in run.unknowns:
        yield _show_unknown(run, name)
    if find_stages(run):
        yield _show_stages(run)


def _show_values(region: Slice, name: str, values: np.ndarray, true: np.ndarray | None) -> Panel:
    def show(axes: Axes) -> None:
        if len(region.names) == 2:
            _draw_map(axes, region, values, style.VALUES, None)
        else:
            x = region.axes[region.names[0]]
            if true is not None:
                axes.plot(x, true, color="0.65", linewidth=2.5, label="reference")
            axes.plot(x, values, color=style.COLOURS[0], label="network")
            axes.legend()
        _name(axes, region, name)

    return show


def _show_error(region: Slice, name: str, error: np.ndarray) -> Panel:
    def show(axes: Axes) -> None:
        most = float(np.nanmax(np.abs(error))) or 1.0
        if len(region.names) == 2:
            _draw_map(axes, region, error, style.SIGNED, Normalize(-most, most))
            # Both signs are dark in grey: negative ones have dashed contours.
            x, y = region.axes.values()
            levels = [-most / 3, most / 3]
            axes.contour(x, y, error.T, levels, colors="black", linewidths=0.4)
        else:
            axes.axhline(0, color="0.65", linewidth=0.6)
            axes.plot(region.axes[region.names[0]], error, color=style.COLOURS[1])
            axes.ticklabel_format(axis="y", scilimits=(-2, 3))
        _name(axes, region, f"error of {name}")

    return show


def _show_residual(region: Slice, name: str, size: np.ndarray) -> Panel:
    def show(axes: Axes) -> None:
        most = max(float(np.nanmax(size)), float(np.finfo(float).tiny))
        shown = np.maximum(size, most * SHOWN_RANGE)
        if len(region.names) == 2:
            _draw_map(axes, region, shown, style.SIZES, LogNorm(most * SHOWN_RANGE, most))
        else:
            axes.semilogy(region.axes[region.names[0]], shown, color=style.COLOURS[0])
        _name(axes, region, f"|{name}|")

    return show


def _show_points(region: Slice, points: np.ndarray) -> Panel:
    order = make_generator(0, "drawn points").permutation(points.shape[1])
    chosen = points[:, order[:DRAWN_POINTS]]  # every second one of a sequence may be one half

    def show(axes: Axes) -> None:
        if len(chosen) == 2:
            axes.plot(*chosen, ".", color="black", markersize=1.5, markeredgewidth=0)
        else:
            axes.plot(chosen[0], np.zeros(chosen.shape[1]), "|", color="black", markersize=6)
            axes.set_yticks([])
        _name(axes, region, f"{points.shape[1]} points at the start")

    return show


def _show_unknown(run: Run, name: str) -> Panel:
    x, values = run.history["iteration"], run.history[name]
    known = np.isfinite(values)
    end = run.final.get(name, float("nan"))
    half = float((run.solution or {}).get(f"{INTERVAL}{name}", np.nan))

    def show(axes: Axes) -> None:
        axes.plot(x[known], values[known], color=style.COLOURS[0])
        if math.isfinite(end):
            interval = half if math.isfinite(half) else 0.0
            bar: dict[str, Any] = {"color": style.COLOURS[1], "capsize": 3, "markersize": 3}
            axes.errorbar([x[-1]], [end], [interval], fmt="o", **bar)
        axes.set(xlabel="iterations", title=f"{name}, at the end {end:.5g} ± {half:.2g}")

    return show


def _show_stages(run: Run) -> Panel:
    x, loss = run.history["iteration"], run.history["loss"]

    def show(axes: Axes) -> None:
        for number, span in enumerate(find_stages(run)):
            own = slice(span.first, span.last + 1)
            look = style.choose_line_style(number)
            axes.semilogy(x[own], loss[own], label=f"{span.number} {span.solver}", **look)
            if number % 2:
                axes.axvspan(x[span.first], x[span.last], color="0.94", linewidth=0)
        axes.legend()
        axes.set(xlabel="iterations", title="loss, by stage")

    return show


def _draw_map(
    axes: Axes, region: Slice, values: np.ndarray, colours: str, norm: Normalize | None
) -> None:
    (_, x), (_, y) = region.axes.items()
    mesh = axes.pcolormesh(
        x, y, values.T, cmap=colours, norm=norm, shading="nearest", rasterized=True
    )
    axes.grid(False)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02)
    if norm is None or not isinstance(norm, LogNorm):
        bar.formatter.set_powerlimits((-2, 3))  # type: ignore[attr-defined]


def _name(axes: Axes, region: Slice, title: str) -> None:
    fixed = ", ".join(f"{name} = {value:g}" for name, value in region.fixed.items())
    axes.set_title(f"{title} at {fixed}" if fixed else title)
    axes.set_xlabel(region.names[0])
    if len(region.names) == 2:
        axes.set_ylabel(region.names[1])
