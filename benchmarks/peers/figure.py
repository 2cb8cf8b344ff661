"""The figure of the comparison: errors against seconds of training, a panel for each problem."""

from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.peers.programs import PROGRAMS
from benchmarks.peers.runs import Plan
from hpctrain.results import style


def draw(plan: Plan, output: Path) -> None:
    """Draws the lowest error so far of each run, a line a seed, into `output`."""
    looks = {name: style.choose_line_style(index) for index, name in enumerate(PROGRAMS)}
    with matplotlib.rc_context(style.SETTINGS):
        figure = style.make_figure(9.0, 5.6)
        panels = figure.subplots(2, -(-len(plan.problems) // 2), squeeze=False).ravel()
        for axes, problem in zip(panels, plan.problems, strict=False):
            for program in plan.programs:
                for seed in plan.seeds:
                    result = plan.read(program, problem, seed)
                    if result is not None:
                        lowest = np.minimum.accumulate(result["errors"])
                        axes.plot(result["seconds"], lowest, linewidth=0.8, **looks[program])
            axes.set(title=problem, xscale="log", yscale="log", xlim=(1, plan.seconds))
            axes.set(xlabel="seconds of training", ylabel="lowest relative error")
        lines = [
            matplotlib.lines.Line2D([], [], label=name, **looks[name]) for name in plan.programs
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=4)
        style.save(figure, output)
