"""MLVR against its baselines, and the table of ASTROM: `python -m benchmarks.logistic [SET]…`.

Sets are those of `make data`, all by default: australian, gisette-like. Work is in effective
gradient evaluations, Σ |D_used| / |D| over losses, gradients and Hessian-vector products. The
tables go to docs/results.md. The single-sample steps of SVRG and SARAH take most of the time,
about half an hour for gisette-like on one core.
"""

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from hpctrain.build import make_job_solver, make_objective, make_problem
from hpctrain.job import Job, parse_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.logistic import LogisticProblem
from hpctrain.solvers.variance_reduction import effective_evaluations
from hpctrain.vectors import norm

DATA = {"australian": "data/australian.libsvm", "gisette-like": "data/gisette-like.h5"}
TARGET_GAP = 1e-8
TARGET_GRADIENT = 1e-6
# Effective gradient evaluations after which a run has failed.
BUDGET = 120
SEEDS = {"australian": 10, "gisette-like": 3}
# SVRG's and SARAH's step sizes are these over L_max = max ‖x_j‖² / 4 + λ, on one seed each.
STEPS = (0.2, 0.5, 1.0, 2.0, 5.0)
NEWTON_STEPS = (0.1, 0.25, 0.5, 0.75, 1.0)
SMALL_NEWTON_STEPS = (0.01, 0.03, 0.1, 0.3, 1.0)
SHARES = (0.01, 0.1, 0.25, 0.5)
MLVR = """name = "mlvr"
levels = {levels}
coarsening_factor = 4.0
pre_smoothing = 0
post_smoothing = 2
coarse_solver = "lbfgs"
coarse_steps = {steps}
coarse_tolerance = {tolerance}
memory = 20"""
SSN = 'name = "ssn"\nshare = {share}\nlearning_rate = {step}'
LBFGS = 'name = "lbfgs"\nmomentum = 1.0\nmemory = 20'
# Coarse steps and their tolerance, as in jobs/logistic.
COARSE = {
    "australian": {"steps": 10, "tolerance": 0.3},
    "gisette-like": {"steps": 5, "tolerance": 0.5},
}
# The table of METHODS: its columns, and its rows as published, Gisette.
PUBLISHED = {
    "iterations": (16, 31, 16, 14, 13, 190, 143, 23, 21),
    "∇L": (16, 32, 24, 24, 29, 190, 143, 23, 21),
    "∇²L": (16, 5.9, 10.1, 12.4, 14.8, 1.9, 14.3, 5.75, 10.5),
    "CG": (148, 47.2, 108.3, 125.2, 134.9, 1900, 1430, 230, 210),
}


@dataclass(frozen=True)
class Study:
    """A set, with what is made of it once."""

    name: str
    problem: LogisticProblem
    minimum: float


@dataclass(frozen=True)
class End:
    """Where a run ended: converged or not, with its work."""

    converged: bool
    iterations: int
    effective: float
    gradients: float
    state: Any


def study(name: str) -> Study:
    problem = make_problem(job(name, 'name = "newton"'))
    assert isinstance(problem, LogisticProblem)
    return Study(name, problem, problem.monitor(Communicator(), 64, 1).minimum)


def job(name: str, solver: str, seed: int = 0) -> Job:
    text = f'seed = {seed}\n[problem]\nname = "logistic"\ndata = "{DATA[name]}"\n[solver]\n{solver}'
    return parse_job(text, "benchmarks.logistic")


def run(on: Study, solver: str, seed: int, done: Callable[[Any], bool], budget: float) -> End:
    """Steps of a solver until its state is good enough, or its work is spent."""
    settings = job(on.name, solver, seed)
    objective = make_objective(settings, on.problem, Communicator(), 1)
    method = make_job_solver(settings, on.problem, objective, 1)
    state, iterations = method.init(on.problem.initial_parameters(0)), 0
    counts = objective.counts
    while not done(state) and effective_evaluations(counts) < budget:
        state, record = method.step(state)
        iterations += 1
        if record.stalled or not math.isfinite(record.loss) or record.loss > 1e3:
            break
    spent = effective_evaluations(counts)
    return End(done(state), iterations, spent, counts.gradient_evaluations, state)


def effective_to_gap(on: Study, solver: str, seeds: int) -> list[float]:
    """Effective gradient evaluations to L - L* ≤ TARGET_GAP, a seed each."""
    work: list[float] = []
    for seed in range(seeds):
        end = run(on, solver, seed, lambda s: s.point.loss - on.minimum <= TARGET_GAP, BUDGET)
        if not end.converged:
            return [math.inf]
        work.append(end.effective)
    return work


def mlvr_table(on: Study) -> None:
    """Work to the target: every baseline at its best of five step sizes."""
    seeds, L_max = SEEDS[on.name], largest_curvature(on.problem)
    rows = [
        summary(f"MLVR{levels}", "", effective_to_gap(on, mlvr(on, levels), seeds))
        for levels in (2, 3)
    ]
    for share in SHARES:
        solvers = {f"{a:g}": SSN.format(share=share, step=a) for a in NEWTON_STEPS}
        rows.append(best(on, f"SSN {100 * share:g} %", solvers, seeds))
    for name in ("svrg", "sarah"):
        solvers = {f"{a:g} / L_max": f'name = "{name}"\nlearning_rate = {a / L_max}' for a in STEPS}
        rows.append(best(on, name.upper(), solvers, 1))
    rows += [
        summary("Newton, all samples", "", effective_to_gap(on, 'name = "newton"', 1)),
        summary("L-BFGS", "", effective_to_gap(on, LBFGS, 1)),
    ]  # fmt: skip
    headers = ["method", "best step", "mean", "least", "greatest", "seeds"]
    print(f"\n{on.name}: effective gradient evaluations to L - L* <= {TARGET_GAP:g}\n")
    print(tabulate(rows, headers=headers, floatfmt=".1f", tablefmt="github"), flush=True)


def mlvr(on: Study, levels: int) -> str:
    return MLVR.format(levels=levels, **COARSE[on.name])


def best(on: Study, name: str, solvers: dict[str, str], seeds: int) -> list[Any]:
    found = {step: effective_to_gap(on, solver, seeds) for step, solver in solvers.items()}
    step = min(found, key=lambda each: statistics.mean(found[each]))
    return summary(name, step, found[step])


def summary(name: str, step: str, work: Sequence[float]) -> list[Any]:
    shown = [value if math.isfinite(value) else f"> {BUDGET}"
             for value in (statistics.mean(work), min(work), max(work))]  # fmt: skip
    return [name, step if math.isfinite(min(work)) else "none", *shown, len(work)]


def largest_curvature(problem: LogisticProblem) -> float:
    squares = problem._rows.power(2) if hasattr(problem._rows, "power") else problem._rows**2
    return float(np.max(squares.sum(axis=1))) / 4 + problem.ridge


def astrom_table(on: Study) -> None:
    """Iterations and evaluations to the target, by the published table's columns."""

    def done(state: Any) -> bool:
        return norm(state.point.gradient) <= TARGET_GRADIENT

    columns: dict[str, list[Any]] = {}
    for share in (1.0, *SHARES):
        end = run(on, f'name = "astrom"\nshare = {share}', 0, done, 4 * BUDGET)
        name = "TR" if share == 1 else f"ASTROM {100 * share:g} %"
        state = end.state
        columns[name] = [end.iterations, end.gradients, state.hessians, state.shared_cg, state.cg]
    for share in SHARES:
        columns |= sub_sampled(on, share, done)
    rows = ["iterations", "∇L", "∇²L", "CG, shared", "CG, each"]
    table = [[row, *(column[k] for column in columns.values())] for k, row in enumerate(rows)]
    print(f"\n{on.name}: to ‖∇L‖ <= {TARGET_GRADIENT:g}; published for Gisette below\n")
    table += [[f"published: {row}", *values] for row, values in PUBLISHED.items()]
    print(tabulate(table, headers=["", *columns], floatfmt=".1f", tablefmt="github"), flush=True)


def sub_sampled(on: Study, share: float, done: Callable[[Any], bool]) -> dict[str, list[Any]]:
    """SSN at the step size that takes the fewest iterations."""
    size = max(1, round(share * on.problem.samples)) / on.problem.samples
    ends = {
        step: run(on, SSN.format(share=share, step=step), 0, done, 4 * BUDGET)
        for step in SMALL_NEWTON_STEPS
    }
    good = {step: end for step, end in ends.items() if end.converged}
    if not good:
        return {f"SSN {100 * share:g} %": ["-"] * 5}
    step = min(good, key=lambda each: good[each].iterations)
    iterations = good[step].iterations
    cg = good[step].effective - good[step].gradients
    return {
        f"SSN {100 * share:g} % ({step:g})": [
            iterations, good[step].gradients, iterations * size, cg, cg / size,
        ]
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or DATA:
        on = study(name)
        print(f"\n{on.problem.describe()}, L* = {on.minimum:.12g}", flush=True)
        astrom_table(on)
        mlvr_table(on)


if __name__ == "__main__":
    main()
