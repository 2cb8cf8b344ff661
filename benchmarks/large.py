"""Where decomposition pays: 40,041 parameters, `python -m benchmarks.large [MINUTES]`.

Each run has one core for so many minutes (20), two at a time; the table goes to docs/results.md.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tabulate import tabulate

from benchmarks.runs import train
from hpctrain.store.run_file import Run

JOB = "diffusion-transport-large"
RUNS = {
    "L-BFGS, m = 3": (f"{JOB}-lbfgs", {"solver__memory": 3}),
    "MSPQN, kept block memories": (f"{JOB}-mspqn", {}),
    "L-BFGS, m = 10": (f"{JOB}-lbfgs", {"solver__memory": 10}),
    "self-scaled Broyden, as factors": (JOB, {}),
    "L-BFGS, m = 50": (f"{JOB}-lbfgs", {"solver__memory": 50}),
    "Newton-Krylov-Schwarz": (
        f"{JOB}-mspqn",
        {"solver": '{name="newton-krylov-schwarz",blocks=10}'},
    ),
}
AT_A_TIME = 2
# Of the time, at which errors are shown.
PARTS = (0.25, 0.5, 1)


def error_at(run: Run, seconds: float) -> float:
    """The last error that was evaluated within so many seconds of training."""
    errors = run.history["error"]
    known = np.isfinite(errors) & (run.history["seconds"] <= seconds)
    return float(errors[known][-1])


def main() -> None:
    seconds = 60 * float(sys.argv[1] if len(sys.argv) > 1 else 20)

    def one(name: str) -> list:
        job, settings = RUNS[name]
        run = train(job, ranks=1, stop__max_seconds=seconds, **settings)
        errors = [f"{error_at(run, part * seconds):.2e}" for part in PARTS]
        last = {name: column[-1] for name, column in run.history.items()}
        return [name, *errors, f"{last['loss']:.1e}", f"{last['gradient_evaluations']:.0f}",
                f"{run.attributes['peak_memory_mb'] / 1024:.1f}"]  # fmt: skip

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        rows = list(pool.map(one, RUNS))
    marks = [f"error, {part * seconds / 60:.3g} min" for part in PARTS]
    headers = ["one core each", *marks, "loss", "gradients", "memory, GB"]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
