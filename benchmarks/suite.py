"""Trains four equations to the published errors and beyond: `python -m benchmarks.suite [NAME]`.

The table goes to docs/results.md. All rows take about an hour on two cores.
"""

import math
import statistics
import sys
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.runs import by_seed, last_within, reached, short, train

SEEDS = range(3)
# Seconds for errors and output, which are no training.
MARGIN = 60


@dataclass(frozen=True)
class Row:
    """A job, the errors asked of it, and the seconds allowed for each."""

    job: str
    targets: tuple[float, ...]
    seconds: tuple[float, ...]


SUITE = {
    "burgers": Row("burgers", (4.6e-4, 1e-5), (8, 60)),
    "burgers-paper": Row("burgers-ssbroyden", (4.6e-4,), (8,)),
    "burgers-deep": Row("burgers-round-off", (1e-6, 1e-7, 1e-8), (600, 600, 600)),
    "klein-gordon": Row("klein-gordon", (6.1e-4,), (60,)),
    "allen-cahn": Row("allen-cahn", (6.0e-4,), (120,)),
    "diffusion-transport": Row("diffusion-transport", (1e-2, 1e-3), (120, 900)),
}


def rows(words: list[str]) -> list[str]:
    """The labels of the tables' rows, by the first two columns."""
    chosen = [SUITE[name] for name in words or SUITE]
    return [f"{row.job} | {short(target)}" for row in chosen for target in row.targets]


def main() -> None:
    table = []
    for name in sys.argv[1:] or SUITE:
        row = SUITE[name]
        runs = [
            train(
                row.job,
                seed=seed,
                stop__error=row.targets[-1],
                stop__max_seconds=row.seconds[-1] + MARGIN,
                output__error_every=5,
            )
            for seed in SEEDS
        ]
        for target, allowed in zip(row.targets, row.seconds, strict=True):
            seconds = [reached(run, target) for run in runs]
            gradients = [reached(run, target, "gradient_evaluations") for run in runs]
            lowest = [last_within(run, math.inf) for run in runs]
            table.append(
                [
                    row.job,
                    short(target),
                    allowed,
                    f"{statistics.median(seconds):.1f}",
                    by_seed(seconds),
                    f"{statistics.median(gradients):.0f}",
                    by_seed(lowest, ".1e"),
                ]
            )
        headers = ["job", "error", "s wanted", "median s", "by seed", "gradients", "last errors"]
        print(
            tabulate(table, headers=headers, tablefmt="github", disable_numparse=True), flush=True
        )


if __name__ == "__main__":
    main()
