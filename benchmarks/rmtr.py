"""RMTR against the single-level trust region: `python -m benchmarks.rmtr [dense] [conv]`.

Both train the same residual network on 10,000 samples of Fashion-MNIST by the jobs in jobs/rmtr,
the single level with the same code. Two counts of work, both in gradients of the finest network on
all samples: in work units a gradient on level l and a batch B counts as K_l / K_L · |B| / |D|, and
in multiply-adds as what it is, for all levels have the first and the last layer. A loss counts as
a third of its gradient. The tables and the figure are those of docs/results.md.
"""

import argparse
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from hpctrain.build import make_job_solver, make_objective, make_problem
from hpctrain.job import load_job
from hpctrain.objective import Counts
from hpctrain.parallel.communicator import Communicator
from hpctrain.study.style import line_style, new_figure, save

JOBS = {"dense": "rmtr/fashion-mnist-dense", "conv": "rmtr/fashion-mnist-conv"}
METHODS = {"RMTR, 3 levels": "", "TR, 1 level": "-single"}
SEEDS = (0, 1, 2)
# Multiply-adds, in gradients, after which a run of each method ends.
BUDGETS = (22.5, 45)
# The accuracy is measured whenever so many gradients have been spent.
EVERY = 1
LOSS_WORK = 1 / 3
UNITS = (2, 5, 10, 15, 20, 30, 44)


@dataclass(frozen=True)
class Curve:
    """What a run had spent, and the highest test accuracy until then, in percent, each (N,)."""

    units: np.ndarray
    multiply_adds: np.ndarray
    seconds: np.ndarray
    accuracy: np.ndarray

    def at(self, multiply_adds: float) -> float:
        """The highest accuracy within so much work; NaN past the run's end."""
        if multiply_adds > self.multiply_adds[-1]:
            return float("nan")
        return float(self.accuracy[self.multiply_adds <= multiply_adds][-1])

    def first(self, target: float) -> tuple[float, float, float]:
        """Work units, multiply-adds and CPU seconds to an accuracy; infinite if not reached."""
        rows = np.flatnonzero(self.accuracy >= target)
        if not len(rows):
            return float("inf"), float("inf"), float("inf")
        row = rows[0]
        return float(self.units[row]), float(self.multiply_adds[row]), float(self.seconds[row])


def train(job_name: str, seed: int, budget: float) -> Curve:
    """Trains by a job, alone and on one thread; the accuracy is measured between the steps."""
    job = load_job(f"jobs/{job_name}.toml", [f"seed={seed}", "parallel.threads=1"])
    problem = make_problem(job)
    objective = make_objective(job, problem, Communicator(), 1)
    solver = make_job_solver(job, problem, objective, 1)
    theta = problem.initial_parameters(job.seed)
    monitor = problem.monitor(objective.communicator, job.parallel.chunks, 1)
    levels = [objective, *(each.objective for each in solver.setting.coarser)]
    for level in levels:  # each counts for itself, in its own costs
        share = problem.share(job.parallel.chunks, 0, 1, 1)
        level.counts = Counts(share.loss_cost, share.gradient_cost)
        if level is not levels[-1]:
            problem, _ = problem.coarsened(job.solver.transfer)
    counts = [level.counts for level in levels]
    rows, seconds = list[tuple[float, ...]](), 0.0

    def measured(step: Any) -> Any:
        nonlocal seconds
        start = time.process_time()
        made = step()
        seconds += time.process_time() - start
        return made

    state, due = measured(lambda: solver.init(theta)), 0.0
    while True:
        spent = (
            sum(each.gradient_work + each.loss_work for each in counts) / counts[0].gradient_cost
        )
        if spent >= due:
            accuracy = 100 * monitor.values(state.point.theta)["test_accuracy"]
            rows.append((_work_units(counts), spent, seconds, accuracy))
            due = spent + EVERY
        if spent >= budget:
            units, adds, times, accuracies = np.array(rows).T
            return Curve(units, adds, times, np.maximum.accumulate(accuracies))
        state, _ = measured(lambda state=state: solver.step(state))


def _work_units(counts: list[Counts]) -> float:
    """Of the levels' own counts, the finest first; K is halved from level to level."""
    evaluations = [each.gradient_evaluations + LOSS_WORK * each.loss_evaluations for each in counts]
    return sum(each / 2**depth for depth, each in enumerate(evaluations))


def train_both(name: str, seed: int) -> list[Curve]:
    """By both methods, one after the other."""
    runs = zip(METHODS.values(), BUDGETS, strict=True)
    return [train(f"{JOBS[name]}{ending}", seed, budget) for ending, budget in runs]


def compare(name: str, pool: Executor) -> dict[str, list[Curve]]:
    """Trains a network by both methods on all seeds, and prints the tables."""
    names = [name] * len(SEEDS)
    found = [dict(zip(METHODS, its, strict=True)) for its in pool.map(train_both, names, SEEDS)]
    curves = {method: [its[method] for its in found] for method in METHODS}
    print(f"\n{name}: test accuracy in % within so many gradients in multiply-adds\n")
    rows = [
        [method, seed, *(curve.at(units) for units in UNITS)]
        for method, its in curves.items()
        for seed, curve in zip(SEEDS, its, strict=True)
    ]
    headers = ["", "seed", *UNITS]
    print(tabulate(rows, headers=headers, floatfmt=".2f", tablefmt="github"))
    print(f"\n{name}: to the highest accuracy of the single level\n")
    headers = ["seed", "%", "work units", "TR", "ratio", "multiply-adds", "TR", "ratio"]
    headers += ["CPU s", "TR", "ratio"]
    rows = _to_the_best(curves)
    print(tabulate(rows, headers=headers, floatfmt=".2f", tablefmt="github"), flush=True)
    return curves


def _to_the_best(curves: dict[str, list[Curve]]) -> list[list[float]]:
    """What RMTR takes to the highest accuracy of TR, what TR takes, and their quotients."""
    rows = []
    for seed, rmtr, tr in zip(SEEDS, *curves.values(), strict=True):
        target = float(tr.accuracy[-1])
        pairs = zip(rmtr.first(target), tr.first(target), strict=True)
        rows.append([seed, target, *(x for a, b in pairs for x in (a, b, a / b))])
    return rows


def draw(found: dict[str, dict[str, list[Curve]]], output: Path) -> None:
    """Accuracy against work units, a panel for each network and a line for each seed."""
    figure = new_figure(3.2 * len(found), 2.6)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for panel, (name, curves) in zip(panels, found.items(), strict=True):
        for number, (method, its) in enumerate(curves.items()):
            for seed, curve in enumerate(its):
                label = method if seed == 0 else None
                panel.plot(curve.units, curve.accuracy, label=label, **line_style(number))
        panel.set(title=name, xlabel="work units", ylabel="test accuracy, %")
        panel.set_ylim(bottom=65)
        panel.legend()
    save(figure, output)


def main() -> None:
    parser = argparse.ArgumentParser(description="RMTR against the single-level trust region")
    parser.add_argument("networks", nargs="*", help="dense, conv; by default both")
    parser.add_argument("-o", "--output", type=Path, help="a figure, *.png or *.pdf")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="seeds that run at a time")
    args = parser.parse_args()
    if unknown := set(args.networks) - set(JOBS):
        parser.error(f"no network {min(unknown)}: {', '.join(JOBS)}")
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        found = {name: compare(name, pool) for name in args.networks or JOBS}
    if args.output:
        draw(found, args.output)


if __name__ == "__main__":
    main()
