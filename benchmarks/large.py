"""Trains 40,041 parameters with blocks and without: `python -m benchmarks.large [--minutes 20]`.

Every run has one core for so many minutes, two at a time. Errors are shown by the CPU time of
training, which a busy machine changes little. Runs are kept in runs/large and made if they are not
there. The table goes to docs/results.md.
"""

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.runs import kept, training_seconds
from benchmarks.tables import write_markdown
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import Run

JOB = "diffusion-transport-large"
RUNS = {
    "self-scaled Broyden, no blocks": (JOB, {}),
    "MSPQN, Broyden memories of the blocks kept": (f"{JOB}-mspqn", {}),
    "Newton-Krylov-Schwarz, 10 blocks": (
        f"{JOB}-mspqn",
        {"solver": '{name="newton-krylov-schwarz",blocks=10}'},
    ),
    "L-BFGS, m = 10": (f"{JOB}-lbfgs", {"solver.memory": 10}),
    "L-BFGS, m = 50": (f"{JOB}-lbfgs", {"solver.memory": 50}),
    "L-BFGS, m = 3": (f"{JOB}-lbfgs", {"solver.memory": 3}),
}
FOLDER = Path("runs/large")
AT_A_TIME = 2
# CPU seconds of training at which errors are shown, and an error whose cost is.
MARKS = (150, 300, 500)
TARGET = 1e-2


def rows(_words: list[str]) -> list[str]:
    """The labels of the table's rows."""
    return list(RUNS)


def error_at(run: Run, seconds: float) -> str:
    """The last error that was evaluated within so much CPU time; none past the run's end."""
    spent, errors = training_seconds(run), run.history["error"]
    if spent[-1] < seconds:
        return ""
    return f"{errors[np.isfinite(errors) & (spent <= seconds)][-1]:.1e}"


def first_at(run: Run, target: float) -> list[str]:
    """CPU seconds and gradients to an error; empty if it was not reached."""
    hits = np.flatnonzero(run.history["error"] <= target)
    if not len(hits):
        return ["", ""]
    gradients = run.history["gradient_evaluations"][hits[0]]
    return [f"{training_seconds(run)[hits[0]]:.0f}", f"{gradients:,.0f}"]


def row(name: str, minutes: float, signals: StopSignals) -> list[str]:
    """A run, made if it is not there, as a row of the table."""
    job, settings = RUNS[name]
    limit = {"stop.max_seconds": 60 * minutes}
    run = kept(FOLDER, re.sub(r"\W+", "-", name), job, settings | limit, signals)
    memory = float(run.attributes["peak_memory_mb"]) / 1024
    marks = [error_at(run, seconds) for seconds in MARKS]
    errors = run.history["error"]
    last = f"{errors[np.isfinite(errors)][-1]:.1e} ({training_seconds(run)[-1]:.0f} s)"
    gradients = f"{run.history['gradient_evaluations'][-1]:,.0f}"
    return [name, *marks, last, gradients, *first_at(run, TARGET), f"{memory:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="40,041 parameters, with blocks and without")
    parser.add_argument("--minutes", type=float, default=20, help="of each run")
    minutes = parser.parse_args().minutes
    with StopSignals() as signals, ThreadPoolExecutor(AT_A_TIME) as pool:
        table = list(pool.map(lambda name: row(name, minutes, signals), RUNS))
    headers = ["one core", *(f"{mark} CPU s" for mark in MARKS), "at the end", "gradients",
               f"CPU s to {TARGET:g}", "gradients to it", "memory, GB"]  # fmt: skip
    print(write_markdown(headers, table))


if __name__ == "__main__":
    main()
