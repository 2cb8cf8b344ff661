"""RMTR on CIFAR-10 at the published size: three stages from 32 filters on."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.published.parts import NOT_YET, describe_spread, order_by_seed
from benchmarks.published.runs import JobRun, Named
from benchmarks.tables import write_markdown
from hpctrain.store.run_file import Run

TITLE = "RMTR: CIFAR-10"
SEEDS = 3
SAMPLES, BATCH, TESTED = 1000, 100, 1000
# Seconds of a gradient of the finest network on these samples on one quiet core.
GRADIENT = 45.0
BUDGETS = {"rmtr": 10, "tr": 20}
UNITS = (2, 5, 10, 20)
JOB = "rmtr/cifar-10-conv"
PUBLISHED = {"solver.pre_smoothing": 2, "solver.post_smoothing": 2, "solver.zeta": 0.5}
# A cascade that leaves half of the budget to the cycles of all levels.
CASCADE = {"solver.cascade": [{"level": 1, "epochs": 1.0}, {"level": 2, "epochs": 0.5}]}
NO_CASCADE: dict[str, Any] = {"solver.cascade": []}
ROWS = {
    "RMTR, F-cycles, no cascade": (JOB, "rmtr", PUBLISHED | NO_CASCADE | {"solver.cycle": "F"}),
    "RMTR, V-cycles, no cascade": (JOB, "rmtr", PUBLISHED | NO_CASCADE | {"solver.cycle": "V"}),
    "RMTR, F-cycles, cascade": (JOB, "rmtr", PUBLISHED | CASCADE | {"solver.cycle": "F"}),
    "RMTR, V-cycles, cascade": (JOB, "rmtr", PUBLISHED | CASCADE | {"solver.cycle": "V"}),
    # Its cascade, of 2 and 1 epochs, takes all of this budget.
    "RMTR, cascade alone": (JOB, "rmtr", PUBLISHED | {"solver.cycle": "V"}),
    "TR, one level": (f"{JOB}-single", "tr", {"solver.zeta": PUBLISHED["solver.zeta"]}),
}

ABOUT = f"""\
A convolutional residual network of three stages of 20, 10 and 5 blocks a level from 32 filters
on, n = 3,969,738, three levels, 2 + 2 smoothing and 10 coarse steps, as published; but
{SAMPLES:,} training samples of CIFAR-10 in mini-batches of {BATCH}, and {TESTED:,} test samples,
drawn by the seed from a JPEG copy, in the place of 50,000, 1,000 and 10,000: a gradient of all
takes more than half an hour on one core. Highest test accuracy in % within so many gradients of
the finest network by multiply-adds, of which RMTR has {BUDGETS["rmtr"]} and TR
{BUDGETS["tr"]}; an accuracy on so few samples is known to 1.5 points. Published is a figure: the
multilevel method reaches a given accuracy in fewer work units. "Cascade" trains the shallower
networks first and prolongs them, for about half of the budget, or all of it where it is alone: a
lead of the rows with it is the cascade's, one of the rows without is that of the cycles."""


def plan_row(name: str, seeds: int) -> list[JobRun]:
    """The runs of a row."""
    job, budget, settings = ROWS[name]
    limits = {
        "problem.samples": SAMPLES,
        "problem.test_samples": TESTED,
        "solver.batch_size": BATCH,
        "stop.max_gradient_evaluations": BUDGETS[budget],
        "stop.max_iterations": 10**6,
        "output.checkpoint_every": 1,
        "output.error_every": 1,
    }
    label, seconds = f"{name}, {SAMPLES} samples", 1.5 * GRADIENT * BUDGETS[budget]
    return [
        Named(job, settings | limits | {"seed": seed}, seconds, label=f"{label}, seed {seed}")
        for seed in range(seeds)
    ]


def plan(seeds: int) -> list[JobRun]:
    return order_by_seed([plan_row(name, seeds) for name in ROWS])


def write(folder: Path, seeds: int) -> str:
    table = []
    for name in ROWS:
        runs = [run for each in plan_row(name, seeds) if (run := each.read(folder))]
        cells = [_describe(runs, units) for units in UNITS]
        table.append([name, *(cells if any(cells) else [NOT_YET, *[""] * (len(UNITS) - 1)])])
    return f"{ABOUT}\n\n{write_markdown(['', *UNITS], table)}"


def _describe(runs: list[Run], units: float) -> str:
    """The highest accuracies within so many gradients, of the runs that have spent them."""
    found = []
    for run in runs:
        spent, values = run.history["gradient_evaluations"], run.history["test_accuracy"]
        within = values[(spent <= units) & np.isfinite(values)]
        if spent[-1] >= 0.95 * units and len(within):
            found.append(100 * float(within.max()))
    return describe_spread(found) if found else ""
