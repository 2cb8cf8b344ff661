"""The main job: time to accuracy over seeds, work per iteration, and ranks against threads."""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tabulate import tabulate

from hpctrain.store.run_file import Run, read_run

JOB = "jobs/burgers.toml"
SEEDS = range(5)
TARGETS = (4.6e-4, 1e-5)
MPIRUN = Path(sys.executable).parent / "mpirun"
LAYOUTS = {"2 ranks x 1 thread": (2, 1), "1 rank x 2 threads": (1, 2), "1 rank x 1 thread": (1, 1)}
ROUNDS = 3
ITERATIONS = 150


def train(folder: str, ranks: int, threads: int, *settings: str) -> Run:
    """Runs the job and reads what it wrote."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "run.h5"
    changes = [f"parallel.threads={threads}", "output.checkpoint_every=0", *settings]
    overrides = [word for change in changes for word in ("--set", change)]
    command = [MPIRUN, "-n", str(ranks), sys.executable, "-m", "hpctrain", "run", JOB]
    subprocess.run([*command, "-o", output, *overrides], check=True, stdout=subprocess.DEVNULL)
    return read_run(output)


def reached(run: Run, target: float, column: str) -> float:
    """A column at the first evaluation of the error that is at most `target`."""
    hits = np.flatnonzero(run.history["error"] <= target)
    return float(run.history[column][hits[0]]) if len(hits) else float("inf")


def seeds(folder: str) -> None:
    runs = [train(folder, 2, 1, f"seed={seed}", f"stop.error={min(TARGETS)}") for seed in SEEDS]
    rows = []
    for target in TARGETS:
        seconds = [reached(run, target, "seconds") for run in runs]
        gradients = [reached(run, target, "gradient_evaluations") for run in runs]
        iterations = [reached(run, target, "iteration") for run in runs]
        rows.append([
            f"<= {target:g}", statistics.median(seconds), " ".join(f"{s:.1f}" for s in seconds),
            statistics.median(gradients),
            statistics.median(g / i for g, i in zip(gradients, iterations, strict=True)),
        ])  # fmt: skip
    headers = ["error", "median s", "s by seed", "gradients", "gradients / iteration"]
    print(f"{JOB}, 2 ranks x 1 thread, training seconds, {len(SEEDS)} seeds")
    print(tabulate(rows, headers=headers, floatfmt=".2f"), flush=True)


def layouts(folder: str) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for _ in range(ROUNDS):
        for name, (ranks, threads) in LAYOUTS.items():
            stop = f"stop.max_iterations={ITERATIONS}"
            seconds[name].append(train(folder, ranks, threads, stop).history["seconds"][-1])
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ranks, threads, serial = median.values()
    rows = [[name, 1e3 * value / ITERATIONS] for name, value in median.items()]
    print(tabulate(rows, headers=["layout", "ms / iteration"], floatfmt=".2f"))
    print(f"2 x 1 against 1 x 2: {ranks / threads:.2f} (wanted 0.85 to 1.15)")
    print(f"1 x 1 against 2 x 1: {serial / ranks:.2f} (wanted >= 1.7)", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seeds(folder)
        layouts(folder)


if __name__ == "__main__":
    main()
