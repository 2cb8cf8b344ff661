"""Measures the main job, jobs/burgers.toml, under several seeds: seconds until errors are reached,
the work in an iteration, and a run on two ranks against one on two threads.
"""

import statistics

from tabulate import tabulate

from benchmarks.runs import reached, short, train

JOB = "burgers"
SEEDS = range(5)
TARGETS = (4.6e-4, 1e-5)
LAYOUTS = {"2 ranks x 1 thread": (2, 1), "1 rank x 2 threads": (1, 2), "1 rank x 1 thread": (1, 1)}
ROUNDS = 3
ITERATIONS = 150


def rows(_words: list[str]) -> list[str]:
    """The labels of the tables' rows."""
    return [*map(_target, TARGETS), *LAYOUTS]


def _target(error: float) -> str:
    return f"≤ {short(error)}"


def seeds() -> None:
    runs = [train(JOB, seed=seed, stop__error=min(TARGETS)) for seed in SEEDS]
    table = []
    for target in TARGETS:
        seconds = [reached(run, target, "seconds") for run in runs]
        gradients = [reached(run, target, "gradient_evaluations") for run in runs]
        iterations = [reached(run, target, "iteration") for run in runs]
        table.append([
            _target(target), statistics.median(seconds), " ".join(f"{s:.1f}" for s in seconds),
            statistics.median(gradients),
            statistics.median(g / i for g, i in zip(gradients, iterations, strict=True)),
        ])  # fmt: skip
    headers = ["error", "median s", "s by seed", "gradients", "gradients / iteration"]
    print(f"jobs/{JOB}.toml, 2 ranks x 1 thread, training seconds, {len(SEEDS)} seeds")
    print(tabulate(table, headers=headers, floatfmt=".2f"), flush=True)


def layouts() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for _ in range(ROUNDS):
        for name, (ranks, threads) in LAYOUTS.items():
            run = train(JOB, ranks, threads, stop__max_iterations=ITERATIONS)
            seconds[name].append(run.history["seconds"][-1])
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ranks, threads, serial = median.values()
    table = [[name, 1e3 * value / ITERATIONS] for name, value in median.items()]
    print(tabulate(table, headers=["layout", "ms / iteration"], floatfmt=".2f"))
    print(f"2 x 1 against 1 x 2: {ranks / threads:.2f} (wanted 0.85 to 1.15)")
    print(f"1 x 1 against 2 x 1: {serial / ranks:.2f} (wanted >= 1.7)", flush=True)


def main() -> None:
    seeds()
    layouts()


if __name__ == "__main__":
    main()
