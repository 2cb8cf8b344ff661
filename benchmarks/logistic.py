"""MLVR against its baselines, and the table of ASTROM: `python -m benchmarks.logistic [SET]…`.

Sets are those of `make data`, all by default: australian, gisette-like. Work is in effective
gradient evaluations, Σ |D_used| / |D| over losses, gradients and Hessian-vector products; a loss
and its gradient in one pass are one. Step sizes are chosen on the seeds of TUNING and reported on
those of SEEDS. The tables go to docs/results.md.
The single-sample steps of SVRG and SARAH take most of the time, some ten minutes for gisette-like.
"""

import math
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
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
# Effective gradient evaluations after which a run has failed; more for the table of ASTROM.
BUDGET = 150
LONG_BUDGET = 600
TUNING = (100, 101, 102)
SEEDS = tuple(range(10))
# SSN takes long to small gradients.
FEW_SEEDS = SEEDS[:3]
# SVRG's and SARAH's step sizes are these over L_max = max ‖x_j‖² / 4 + λ.
STEPS = (0.2, 0.5, 1.0, 2.0, 5.0)
NEWTON_STEPS = (0.1, 0.25, 0.5, 0.75, 1.0)
SMALL_NEWTON_STEPS = (0.01, 0.03, 0.1, 0.3, 1.0)
SHARES = (0.01, 0.1, 0.25, 0.5)
# As wide a search for SSN as the defaults of MLVR had.
MANY_SHARES = (0.05, 0.1, 0.15, 0.25, 0.5)
MANY_STEPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
# MLVR has one setting for all sets, its defaults.
MLVR = 'name = "mlvr-krylov"\nlevels = {levels}'
V_CYCLES = 'name = "mlvr"\nlevels = {levels}'
SSN = 'name = "ssn"\nshare = {share}\nlearning_rate = {step}'
LBFGS = 'name = "lbfgs"\nmomentum = 1.0\nmemory = {memory}'
ASTROM = 'name = "astrom"\nshare = {share}'
# The published table of ASTROM, Gisette, by columns.
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
class Stage:
    """Where a run is: its state, and the work so far."""

    state: Any
    iterations: int
    effective: float
    gradients: float

    @property
    def gradient_norm(self) -> float:
        return norm(self.state.point.gradient)


Test = Callable[[Stage], bool]


def study(name: str) -> Study:
    problem = make_problem(job(name, 'name = "newton"'))
    assert isinstance(problem, LogisticProblem)
    return Study(name, problem, problem.monitor(Communicator(), 64, 1).minimum)


def job(name: str, solver: str, seed: int = 0) -> Job:
    text = f'seed = {seed}\n[problem]\nname = "logistic"\ndata = "{DATA[name]}"\n[solver]\n{solver}'
    return parse_job(text, "benchmarks.logistic")


def stages(on: Study, solver: str, seed: int, budget: float = BUDGET) -> Iterator[Stage]:
    """A run after each of its steps, until it diverges, finds no decrease or spends its budget."""
    settings = job(on.name, solver, seed)
    objective = make_objective(settings, on.problem, Communicator(), 1)
    method = make_job_solver(settings, on.problem, objective, 1)
    state, iterations, ends = method.init(on.problem.initial_parameters(0)), 0, False
    counts = objective.counts
    while True:
        effective = effective_evaluations(counts)
        yield Stage(state, iterations, effective, counts.gradient_evaluations)
        if ends or effective >= budget:
            return
        state, record = method.step(state)
        iterations += 1
        ends = record.stalled or not math.isfinite(record.loss) or record.loss > 1e3


def reached(on: Study, solver: str, seed: int, done: Test, budget: float) -> Stage | None:
    return next((stage for stage in stages(on, solver, seed, budget) if done(stage)), None)


def effective_to_gap(on: Study, solver: str, seeds: Iterable[int]) -> list[float]:
    """Effective gradient evaluations to L - L* ≤ TARGET_GAP by seed; ends where one failed."""
    work: list[float] = []
    for seed in seeds:
        found = reached(
            on, solver, seed, lambda s: s.state.point.loss - on.minimum <= TARGET_GAP, BUDGET
        )
        work.append(found.effective if found else math.inf)
        if not found:
            break
    return work


def mlvr_table(on: Study) -> None:
    """Work to the target: every baseline at its best of five step sizes."""
    rows = [
        summary(f"MLVR{levels}{kind}", "defaults", effective_to_gap(on, solver, SEEDS))
        for kind, form in (("", MLVR), (", V-cycles", V_CYCLES))
        for levels in (2, 3)
        for solver in (form.format(levels=levels),)
    ]
    rows += [best(on, f"SSN {100 * share:g} %", sub_sampled_newton(share)) for share in SHARES]
    many = {
        f"{100 * share:g} %, {step}": solver
        for share in MANY_SHARES
        for step, solver in sub_sampled_newton(share, MANY_STEPS).items()
    }
    rows.append(best(on, "SSN, share and step", many))
    rows += [best(on, name.upper(), first_order(on, name)) for name in ("svrg", "sarah")]
    for memory in (20, 50):
        solver = LBFGS.format(memory=memory)
        rows.append(summary(f"L-BFGS, m = {memory}", "", effective_to_gap(on, solver, SEEDS[:1])))
    rows.append(summary("Newton", "", effective_to_gap(on, 'name = "newton"', SEEDS[:1])))
    headers = ["method", "best of", "mean", "least", "greatest", "seeds"]
    print(f"\n{on.name}: effective gradient evaluations to L - L* <= {TARGET_GAP:g}\n")
    print(tabulate(rows, headers=headers, disable_numparse=True, tablefmt="github"), flush=True)


def sub_sampled_newton(share: float, steps: Iterable[float] = NEWTON_STEPS) -> dict[str, str]:
    return {f"{step:g}": SSN.format(share=share, step=step) for step in steps}


def first_order(on: Study, name: str) -> dict[str, str]:
    L_max = largest_curvature(on.problem)
    return {
        f"{step:g} / L_max": f'name = "{name}"\nlearning_rate = {step / L_max}' for step in STEPS
    }


def largest_curvature(problem: LogisticProblem) -> float:
    squares = problem._rows.power(2) if hasattr(problem._rows, "power") else problem._rows**2
    return float(np.max(squares.sum(axis=1))) / 4 + problem.ridge


def best(on: Study, name: str, solvers: dict[str, str]) -> list[Any]:
    """The row of the setting with the least mean work on the seeds for tuning."""
    means = {
        each: statistics.mean(effective_to_gap(on, solver, TUNING))
        for each, solver in solvers.items()
    }
    chosen = min(means, key=lambda each: means[each])
    if math.isinf(means[chosen]):
        return summary(name, f"none of {len(solvers)}", [math.inf])
    work = effective_to_gap(on, solvers[chosen], SEEDS)
    return summary(name, f"{chosen} of {len(solvers)}", work)


def summary(name: str, setting: str, work: list[float]) -> list[Any]:
    if not math.isfinite(max(work)):
        return [name, setting, f"> {BUDGET}", "", "", ""]
    shown = [f"{value:.1f}" for value in (statistics.mean(work), min(work), max(work))]
    return [name, setting, *shown, len(work)]


def small_gradient(stage: Stage) -> bool:
    return stage.gradient_norm <= TARGET_GRADIENT


def astrom_table(on: Study) -> None:
    """Means of iterations and evaluations to the target, by the published table's columns."""
    columns: dict[str, list[Any]] = {}
    for share in (1.0, *SHARES):
        name = "TR" if share == 1 else f"ASTROM {100 * share:g} %"
        columns[name] = astrom_column(on, share)
    for share in SHARES:
        columns |= newton_column(on, share)
    rows = ["iterations", "∇L", "∇²L", "CG, shared", "CG, each"]
    table = [[row, *(column[k] for column in columns.values())] for k, row in enumerate(rows)]
    print(f"\n{on.name}: to ‖∇L‖ <= {TARGET_GRADIENT:g}; published for Gisette below\n")
    table += [[f"published: {row}", *values] for row, values in PUBLISHED.items()]
    print(tabulate(table, headers=["", *columns], floatfmt=".1f", tablefmt="github"), flush=True)


def astrom_column(on: Study, share: float) -> list[Any]:
    ends = []
    for seed in SEEDS:
        end = reached(on, ASTROM.format(share=share), seed, small_gradient, LONG_BUDGET)
        if end is None:
            return ["-"] * 5
        s = end.state
        ends.append([end.iterations, end.gradients, s.hessians, s.shared_cg, s.cg])
    return [float(mean) for mean in np.mean(ends, axis=0)]


def newton_column(on: Study, share: float) -> dict[str, list[Any]]:
    """SSN at the step size that takes the fewest iterations on a seed for tuning."""
    size = max(1, round(share * on.problem.samples)) / on.problem.samples
    solvers = sub_sampled_newton(share, SMALL_NEWTON_STEPS)
    found = {
        step: reached(on, solver, TUNING[0], small_gradient, LONG_BUDGET)
        for step, solver in solvers.items()
    }
    iterations = {step: end.iterations for step, end in found.items() if end is not None}
    if not iterations:
        return {f"SSN {100 * share:g} %": ["-"] * 5}
    step = min(iterations, key=lambda each: iterations[each])
    name, ends = f"SSN {100 * share:g} % ({step})", []
    for seed in FEW_SEEDS:
        end = reached(on, solvers[step], seed, small_gradient, LONG_BUDGET)
        if end is None:
            return {name: ["-"] * 5}
        cg = end.effective - end.gradients
        ends.append([end.iterations, end.gradients, end.iterations * size, cg, cg / size])
    return {name: [float(mean) for mean in np.mean(ends, axis=0)]}


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or DATA:
        on = study(name)
        print(f"\n{on.problem.describe()}, L* = {on.minimum:.12g}", flush=True)
        astrom_table(on)
        mlvr_table(on)


if __name__ == "__main__":
    main()
