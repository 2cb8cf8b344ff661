"""Draws the figures of MLVR and ASTROM that `benchmarks.logistic -o FOLDER` draws."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from benchmarks.logistic_runs import Stage
from hpctrain.results.style import choose_line_style, make_figure, save

# Stages of a run by the method's name.
Curves = dict[str, list[Stage]]
WORK = "effective gradient evaluations"


def mlvr_figure(sets: dict[str, Curves], target: float, output: Path) -> None:
    """L - L* against effective gradient evaluations, a panel a set."""
    figure = make_figure(4.2 * len(sets), 3.3)
    panels = np.atleast_1d(np.array(figure.subplots(1, len(sets))))
    for axes, (name, curves) in zip(panels, sets.items(), strict=True):
        for index, (label, run) in enumerate(curves.items()):
            gaps = [max(stage.gap, target / 10) for stage in run]
            _draw(axes, index, label, [stage.effective for stage in run], gaps)
        axes.axhline(target, color="0.6", linewidth=0.8)
        axes.set(title=name, xlabel=WORK, ylabel="L - L*", yscale="log", ylim=(target / 3, 2))
    panels[0].legend()
    save(figure, output)


def astrom_figure(curves: Curves, samples: int, target: float, output: Path) -> None:
    """‖∇L‖ against effective gradient evaluations, and |D¹| / |D| of TR and ASTROM by iteration."""
    figure = make_figure(8.4, 3.3)
    left, right = figure.subplots(1, 2)
    for index, (label, run) in enumerate(curves.items()):
        _draw(left, index, label, [s.effective for s in run], [s.gradient_norm for s in run])
        if run[0].samples:
            parts = [stage.samples / samples for stage in run]
            _draw(right, index, label, [stage.iterations for stage in run], parts)
    left.axhline(target, color="0.6", linewidth=0.8)
    left.set(xlabel=WORK, ylabel="‖∇L‖", yscale="log")
    right.set(xlabel="iterations", ylabel="|D¹| / |D|", yscale="log")
    left.legend()
    save(figure, output)


def _draw(axes: Axes, index: int, label: str, x: list[float], y: list[float]) -> None:
    axes.plot(x, y, marker=".", markersize=3, label=label, **choose_line_style(index))
