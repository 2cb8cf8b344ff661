"""Variants of ASPQN on eight ranks: `python -m benchmarks.schwarz [--seeds 0,1,2]`.

S = 8 blocks on 8 ranks: modelled parallel time to 4.6e-4, with its phases. The table goes to
docs/results.md. ASPQN and MSPQN as published are in `benchmarks.published`.
"""

import argparse
import statistics

import numpy as np
from tabulate import tabulate

from benchmarks.runs import (
    best_within,
    by_seed,
    computation_seconds,
    phase_seconds,
    reached,
    train,
)

TARGET = 4.6e-4
PARALLEL_BUDGET = 6000
UNLIMITED = {"stop__max_iterations": 10**6, "stop__error": 1e-12, "output__error_every": 1}

# Settings on top of jobs/burgers-aspqn.toml (residual 8 x 20, S = 8).
KEPT = {"solver__local_solver": "ssbroyden", "solver__keep_local_memory": "true"}
BROYDEN = {"solver__global_solver": "ssbroyden", "solver__momentum": 0.9}
VARIANTS = {
    "ASPQN as published": {},
    "local Broyden, kept": KEPT,
    "the same, subspace synchronisation": KEPT | {"solver__synchronisation": "subspace"},
    "kept, k_s = 10, 10 global Broyden steps": KEPT
    | BROYDEN
    | {"solver__local_steps": 10, "solver__global_steps": 10},
    "kept, k_s = 10, 40 global Broyden steps": KEPT
    | BROYDEN
    | {"solver__local_steps": 10, "solver__global_steps": 40},
    "kept, k_s = 5, overlap 1, 40 global Broyden steps": KEPT
    | BROYDEN
    | {"solver__local_steps": 5, "solver__global_steps": 40, "solver__overlap": 1},
}


UNDECOMPOSED = "undecomposed Broyden"


def rows(_words: list[str]) -> list[str]:
    """The labels of the table's rows."""
    return [*VARIANTS, UNDECOMPOSED]


def parallel(seeds: list[int]) -> None:
    table = []
    limits = UNLIMITED | {
        "stop__error": TARGET,
        "stop__max_gradient_evaluations": PARALLEL_BUDGET,
        "ranks": 8,
    }
    for label, settings in VARIANTS.items():
        table.append([label, *_parallel("burgers-aspqn", seeds, limits | settings)])
    table.append([UNDECOMPOSED, *_parallel("burgers-ssbroyden", seeds, limits)])
    headers = ["8 ranks", "computation, s", "by seed", "local", "global", "communication, s",
               "gradients", "last errors"]  # fmt: skip
    print(f"Burgers, residual 8 x 20, to {TARGET}; in each phase the CPU time of the slowest rank;")
    print(
        "communication as measured on the rank that waits least, here with ranks that share cores"
    )
    print(tabulate(table, headers=headers, tablefmt="github", floatfmt=".3g"), flush=True)


def _parallel(job: str, seeds: list[int], settings: dict) -> list:
    runs = [train(job, seed=seed, **settings) for seed in seeds]
    spent = [phase_seconds(run) for run in runs]
    computation = [computation_seconds(run, TARGET) for run in runs]
    return [
        statistics.median(computation),
        by_seed(computation),
        *(statistics.median(each[phase] for each in spent)
          for phase in ("local", "global", "communication")),
        statistics.median(reached(run, TARGET, "gradient_evaluations") for run in runs),
        by_seed([best_within(run, np.inf) for run in runs], ".1e"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    parallel([int(seed) for seed in parser.parse_args().seeds.split(",")])


if __name__ == "__main__":
    main()
