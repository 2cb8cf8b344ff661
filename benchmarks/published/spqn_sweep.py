"""ASPQN and MSPQN by the number of blocks S and local steps k_s, at equal true work."""

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.axes
import matplotlib.lines
import numpy as np

from benchmarks.published.parts import NOT_YET, describe_spread, order_by_seed, repeat
from benchmarks.published.runs import JobRun
from benchmarks.runs import best_within
from benchmarks.tables import write_markdown
from hpctrain.results import style
from hpctrain.store.run_file import Run

TITLE = "SPQN: blocks and local steps"
SEEDS = 3
BUDGET = 2000
# Halves, pairs of layers, single layers; and seconds of a gradient on one quiet core.
BLOCKS = {"burgers": (2, 4, 8), "klein-gordon": (2, 3, 6), "diffusion-transport": (2, 5, 10)}
GRADIENT = {"burgers": 0.014, "klein-gordon": 0.049, "diffusion-transport": 0.08}
LOCAL_STEPS = (10, 50, 100)
DASHES = ("-", "--", ":")
METHODS = ("aspqn", "mspqn")
FIGURE = "spqn-sweep.png"
COUNTS = {
    "iteration": "iterations",
    "nominal_gradient_evaluations": "#g_e",
    "update_cost": "update cost",
}

ABOUT = f"""\
Up to {BUDGET:,} true gradients each; medians over the seeds of the counts, and the least error's
mean (least … greatest; seeds). #g_e are gradients as the paper counts them, k (2 + k_s) and k (2
+ S k_s); update costs are in updates of three pairs of all parameters, 1 + (n_s / n) k_s and 1 +
k_s an iteration for equal blocks. In the paper both methods gain from longer local phases and
more blocks in iterations, #g_e and update cost (figures, without numbers).

![Least error by iterations, #g_e and update cost, for each S and k_s](figures/{FIGURE})"""


def plan_cell(equation: str, method: str, blocks: int, steps: int) -> JobRun:
    """A run of equal work."""
    settings = {
        "solver.blocks": blocks,
        "solver.local_steps": steps,
        "stop.max_gradient_evaluations": BUDGET,
        "stop.max_iterations": 10**6,
        "stop.error": 1e-12,
        "output.error_every": 1,
        "output.checkpoint_every": 10,
    }
    return JobRun(f"{equation}-{method}", settings, 1.5 * BUDGET * GRADIENT[equation])


def list_cells() -> list[tuple[str, str, int, int]]:
    """Equation, method, S and k_s of all rows."""
    return [
        (equation, method, blocks, steps)
        for equation, sizes in BLOCKS.items()
        for method, blocks, steps in itertools.product(METHODS, sizes, LOCAL_STEPS)
    ]


def plan(seeds: int) -> list[JobRun]:
    return order_by_seed([repeat(plan_cell(*each), seeds) for each in list_cells()])


def has_begun(folder: Path) -> bool:
    """Whether there is a run of the figure."""
    return any(each.find_file(folder).exists() for each in plan(1))


def write(folder: Path, seeds: int) -> str:
    head = ["equation", "solver", "S", "k_s", "iterations", "#g_e", "update cost", "error"]
    table = []
    for cell in list_cells():
        runs = [
            run
            for each in repeat(plan_cell(*cell), seeds)
            if (run := each.read(folder)) and each.has_ended(folder)
        ]
        table.append([*cell, *(_describe(runs) if runs else [NOT_YET, "", "", ""])])
    return f"{ABOUT}\n\n{write_markdown(head, table)}"


def _describe(runs: list[Run]) -> list[str]:
    counts = [statistics.median(float(run.history[name][-1]) for run in runs) for name in COUNTS]
    errors = describe_spread([best_within(run, BUDGET) for run in runs], ".1e")
    return [*(f"{count:,.0f}" for count in counts), errors]


def draw(folder: Path, output: Path) -> None:
    """The least error of seed 0 by each count: a row for an equation and method."""
    with matplotlib.rc_context(style.SETTINGS):
        figure = style.make_figure(9.0, 10.5)
        rows = list(itertools.product(BLOCKS, METHODS))
        panels = figure.subplots(len(rows), len(COUNTS), sharey="row", squeeze=False)
        for across, (equation, method) in zip(panels, rows, strict=True):
            _draw_row(across, folder, equation, method)
            across[0].set_ylabel(f"{equation}, {method.upper()}")
        places = ("halves", "pairs of layers", "single layers")
        looks = {name: {"color": f"C{k}"} for k, name in enumerate(places)}
        looks |= {
            f"k_s = {steps}": {"color": "0.3", "linestyle": dashes}
            for steps, dashes in zip(LOCAL_STEPS, DASHES, strict=True)
        }
        line = matplotlib.lines.Line2D
        handles = [line([], [], label=name, **look) for name, look in looks.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        style.save(figure, output)


def _draw_row(
    across: Sequence[matplotlib.axes.Axes], folder: Path, equation: str, method: str
) -> None:
    for k, blocks in enumerate(BLOCKS[equation]):
        for steps, dashes in zip(LOCAL_STEPS, DASHES, strict=True):
            run = repeat(plan_cell(equation, method, blocks, steps), 1)[0].read(folder)
            if run is not None:
                errors = np.fmin.accumulate(run.history["error"])
                for axes, count in zip(across, COUNTS, strict=True):
                    axes.plot(run.history[count], errors, color=f"C{k}", linestyle=dashes)
    for axes, name in zip(across, COUNTS.values(), strict=True):
        axes.set_xlabel(name)
        axes.set_xscale("log")
        axes.set_yscale("log")
