"""ASPQN and MSPQN against L-BFGS at equal work: `python -m benchmarks.spqn`, about 20 minutes.

The paper's jobs, each up to the same number of true gradient evaluations (evaluations of the full
network on all samples; a block's sweep counts as the part that it is). The table goes to
docs/results.md.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tabulate import tabulate

from hpctrain.store.run_file import Run, read_run

SOLVERS = ("lbfgs", "aspqn", "mspqn")
SEEDS = range(3)
BUDGETS = (1000, 2500, 5000, 10_000)
MPIRUN = Path(sys.executable).parent / "mpirun"


def train(folder: str, solver: str, seed: int) -> Run:
    output = Path(folder) / f"{solver}-{seed}.h5"
    settings = {
        "seed": seed,
        "stop.max_gradient_evaluations": max(BUDGETS),
        "stop.error": 1e-12,
        "stop.max_iterations": 10**6,
        "output.error_every": 50 if solver == "lbfgs" else 1,
        "output.checkpoint_every": 0,
    }
    overrides = [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]
    command = [MPIRUN, "-n", "2", sys.executable, "-m", "hpctrain", "run"]
    job = f"jobs/burgers-{solver}.toml"
    subprocess.run([*command, job, "-o", output, *overrides], check=True, stdout=subprocess.DEVNULL)
    return read_run(output)


def error_within(run: Run, budget: float) -> float:
    """The last error that was evaluated within a budget of gradient evaluations."""
    known = np.isfinite(run.history["error"])
    within = known & (run.history["gradient_evaluations"] <= budget)
    return float(run.history["error"][within][-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for solver in SOLVERS:
            runs = [train(folder, solver, seed) for seed in SEEDS]
            for seed, run in zip(SEEDS, runs, strict=True):
                errors = [f"{error_within(run, budget):.2e}" for budget in BUDGETS]
                last = {name: column[-1] for name, column in run.history.items()}
                losses, seconds = last["loss_evaluations"], last["seconds"]
                rows.append([solver, seed, *errors, f"{losses:.0f}", int(last["iteration"]),
                             f"{seconds:.0f}"])  # fmt: skip
    headers = ["solver", "seed", *(f"{b} gradients" for b in BUDGETS), "loss evaluations",
               "outer iterations", "s (2 ranks)"]  # fmt: skip
    print(tabulate(rows, headers=headers, tablefmt="github"))


if __name__ == "__main__":
    main()
