"""ASPQN and MSPQN by the number of blocks S and local steps k_s, at equal true work."""

import itertools
import statistics
from pathlib import Path

from benchmarks.published.parts import NOT_YET, describe_spread, order_by_seed, repeat
from benchmarks.published.runs import JobRun
from benchmarks.runs import best_within
from benchmarks.tables import write_markdown
from hpctrain.store.run_file import Run

TITLE = "SPQN: blocks and local steps"
SEEDS = 3
BUDGET = 2000
# Halves, pairs of layers, single layers; and seconds of a gradient on one quiet core.
BLOCKS = {"burgers": (2, 4, 8), "klein-gordon": (2, 3, 6), "diffusion-transport": (2, 5, 10)}
GRADIENT = {"burgers": 0.014, "klein-gordon": 0.049, "diffusion-transport": 0.08}
LOCAL_STEPS = (10, 50, 100)
METHODS = ("aspqn", "mspqn")

ABOUT = f"""\
Up to {BUDGET:,} true gradients each; medians over the seeds of the counts, and the least error's
mean (least … greatest; seeds). #g_e are gradients as the paper counts them, k (2 + k_s) and k (2
+ S k_s); update costs are in updates of three pairs of all parameters, 1 + (n_s / n) k_s and 1 +
k_s an iteration for equal blocks. In the paper both methods gain from longer local phases and
more blocks in iterations, #g_e and update cost (figures, without numbers)."""


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
    columns = ("iteration", "nominal_gradient_evaluations", "update_cost")
    counts = [statistics.median(float(run.history[name][-1]) for run in runs) for name in columns]
    errors = describe_spread([best_within(run, BUDGET) for run in runs], ".1e")
    return [*(f"{count:,.0f}" for count in counts), errors]
