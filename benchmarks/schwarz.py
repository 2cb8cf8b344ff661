"""Studies of ASPQN and MSPQN, the Schwarz methods of quasi-Newton steps.

`python -m benchmarks.schwarz [sweep|parallel|published] [--seeds 0,1,2]` makes one of them or all:

sweep      the talk's figures: ASPQN and MSPQN by the number of blocks S and local steps k_s, in
           iterations, nominal gradients and update cost, at equal true work
parallel   S = 8 blocks on 8 ranks: modelled parallel time to 4.6e-4, with its phases
published  ASPQN and L-BFGS as published (m = 3) on Burgers and Klein-Gordon, in parallel time

The tables go to docs/results.md. About half an hour on two cores.
"""

import argparse
import itertools
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
from hpctrain.store.run_file import Run

TARGET = 4.6e-4
SWEEP_BUDGET = 2000
PARALLEL_BUDGET = 6000
# Halves, pairs of layers, single layers.
BLOCKS = (2, 4, 8)
LOCAL_STEPS = (10, 50, 100)
SWEPT = ("aspqn", "mspqn")
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
PUBLISHED = (("burgers", 8, 4000), ("klein-gordon", 6, 1500))


def rows(words: list[str]) -> list[str]:
    """The labels of the tables' rows, by their first columns."""
    asked = _parser().parse_args(words)
    swept = itertools.product(SWEPT, BLOCKS, LOCAL_STEPS)
    of_part = {
        "sweep": [" | ".join(map(str, each)) for each in swept],
        "parallel": [*VARIANTS, UNDECOMPOSED],
        "published": [
            f"{problem} | {seed}" for problem, *_ in PUBLISHED for seed in asked.seeds.split(",")
        ],
    }
    return [label for part in asked.parts for label in of_part[part]]


def sweep(seeds: list[int]) -> None:
    table = []
    for name in SWEPT:
        for blocks in BLOCKS:
            for steps in LOCAL_STEPS:
                runs = [
                    train(
                        f"burgers-{name}",
                        seed=seed,
                        solver__blocks=blocks,
                        solver__local_steps=steps,
                        stop__max_gradient_evaluations=SWEEP_BUDGET,
                        **UNLIMITED,
                    )
                    for seed in seeds
                ]
                errors = [best_within(run, SWEEP_BUDGET) for run in runs]
                table.append([name, blocks, steps, *(_last(runs, column) for column in (
                    "iteration", "nominal_gradient_evaluations", "update_cost")),
                    statistics.median(errors), by_seed(errors, ".2e")])  # fmt: skip
    headers = ["solver", "S", "k_s", "iterations", "nominal gradients", "update cost",
               "median error", "by seed"]  # fmt: skip
    print(f"Burgers, residual 8 x 20, up to {SWEEP_BUDGET} true gradients")
    print(tabulate(table, headers=headers, tablefmt="github", floatfmt=".3g"), flush=True)


def _last(runs: list[Run], column: str) -> float:
    return statistics.median(float(run.history[column][-1]) for run in runs)


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


def published(seeds: list[int]) -> None:
    table = []
    for problem, blocks, budget in PUBLISHED:
        common = UNLIMITED | {"stop__max_gradient_evaluations": budget, "ranks": blocks}
        pairs = [
            (
                train(f"{problem}-lbfgs", seed=seed, **common | {"output__error_every": 20}),
                train(f"{problem}-aspqn", seed=seed, **common),
            )
            for seed in seeds
        ]
        for seed, (lbfgs, aspqn) in zip(seeds, pairs, strict=True):
            target = max(best_within(run, budget) for run in (lbfgs, aspqn))
            seconds = [computation_seconds(run, target) for run in (lbfgs, aspqn)]
            table.append([problem, seed, f"{target:.2e}", *seconds, seconds[0] / seconds[1]])
    headers = ["problem", "seed", "error both reach", "L-BFGS, s", "ASPQN, s",
               "ratio"]  # fmt: skip
    print(tabulate(table, headers=headers, tablefmt="github", floatfmt=".3g"), flush=True)


PARTS = {"sweep": sweep, "parallel": parallel, "published": published}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--seeds", default="0,1,2")
    return parser


def main() -> None:
    options = _parser().parse_args()
    for name in options.parts:
        PARTS[name]([int(seed) for seed in options.seeds.split(",")])


if __name__ == "__main__":
    main()
