"""RMTR against the single-level trust region: `python -m benchmarks.rmtr [dense] [conv]`.

Both train the same residual network on Fashion-MNIST (jobs/rmtr), the single level with the same
code. A work unit is one gradient of the finest network on all samples; losses that are evaluated
alone count with their part of it. The tables go to docs/results.md: accuracy at equal work, and
what each method takes to the highest accuracy of the single level.
"""

import sys

import numpy as np
from tabulate import tabulate

from benchmarks.runs import train
from hpctrain.store.run_file import Run

NETWORKS = {"dense": "rmtr/fashion-mnist-dense", "conv": "rmtr/fashion-mnist-conv"}
METHODS = {"RMTR, 3 levels": "", "TR, 1 level": "-single"}
BUDGET = {"dense": 120, "conv": 60}
# A loss is about a third of its gradient.
LOSS_WORK = 1 / 3
UNITS = (2, 5, 10, 20, 30, 60, 120)


def work(run: Run) -> np.ndarray:
    """Work units before each row of the history."""
    history = run.history
    return history["gradient_evaluations"] + LOSS_WORK * history["loss_evaluations"]


def best_so_far(run: Run) -> np.ndarray:
    """The highest test accuracy up to each row; 0 before the first one."""
    return np.maximum.accumulate(np.nan_to_num(run.history["test_accuracy"]))


def at_work(run: Run, units: float) -> float:
    """The highest test accuracy within so many work units, in percent; NaN past the run's end."""
    spent = work(run)
    if units > spent[-1]:
        return float("nan")
    return 100 * float(best_so_far(run)[np.searchsorted(spent, units, side="right") - 1])


def first(run: Run, target: float) -> tuple[float, float]:
    """Work units and seconds of training to a test accuracy; infinite where it is not reached."""
    rows = np.flatnonzero(best_so_far(run) >= target)
    if not len(rows):
        return float("inf"), float("inf")
    return float(work(run)[rows[0]]), float(run.history["seconds"][rows[0]])


def compare(name: str) -> None:
    stop = {"stop__max_gradient_evaluations": BUDGET[name], "stop__max_iterations": 10**6}
    runs = {
        method: train(f"{NETWORKS[name]}{ending}", **stop) for method, ending in METHODS.items()
    }
    rows = [[method, *(at_work(run, units) for units in UNITS)] for method, run in runs.items()]
    print(f"\n{name}: test accuracy in % within so many work units\n")
    print(tabulate(rows, headers=["", *UNITS], floatfmt=".2f", tablefmt="github"), flush=True)
    target = float(best_so_far(runs["TR, 1 level"])[-1])
    rows = [[method, *first(run, target)] for method, run in runs.items()]
    print(f"\n{name}: to {100 * target:.2f} %, the highest accuracy of the single level\n")
    headers = ["", "work units", "seconds"]
    print(tabulate(rows, headers=headers, floatfmt=".1f", tablefmt="github"), flush=True)


def main() -> None:
    for name in sys.argv[1:] or NETWORKS:
        compare(name)


if __name__ == "__main__":
    main()
