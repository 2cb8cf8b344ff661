"""Compares RMTR with the single-level trust region: `python -m benchmarks.rmtr [dense] [conv] …`.

Both train the same residual network on Fashion-MNIST by the jobs in jobs/rmtr, the single level
with the same code: the dense network on all samples (`dense-10k`: on 10,000), the convolutional one
on 10,000. `controls` compares the trust region with the line search of MG/OPT in cycles without a
cascade. Two counts of work, both in gradients of the finest network on all samples: in work units a
gradient on level l and a batch B counts as K_l / K_L · |B| / |D|, and in multiply-adds as what it
is, for all levels have the first and the last layer. A loss counts as a third of its gradient. An
accuracy is the highest until then, as of a run whose best θ is kept, but where it is said to be
that of the last θ. Runs are kept in runs/rmtr-study with their jobs, and made if they are not
there. The tables and the figure are those of docs/results.md.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.tables import write_markdown
from hpctrain.job.settings import Job, load_job
from hpctrain.objective import Counts
from hpctrain.parallel.communicator import Communicator
from hpctrain.results.style import choose_line_style, make_figure, save
from hpctrain.run.assemble import make_job_solver, make_objective, make_problem

METHODS = {"RMTR, 3 levels": "", "TR, 1 level": "-single"}
# Multiply-adds, in gradients, after which a run of each method ends.
BUDGETS = (20, 45)
# The accuracy is measured whenever so many gradients have been spent.
EVERY = 1
LOSS_WORK = 1 / 3
UNITS = (2, 5, 10, 12, 15, 20, 30, 44)
DEFAULT = ("dense", "conv")
CONTROLS = "controls"
CONTROLLED = tuple(product(("trust-region", "line-search"), ("V", "F")))
# Of the cycles that are compared by their control.
CYCLES = (
    "solver.cascade=[]",
    "solver.batch_size=1000",
    "solver.pre_smoothing=2",
    "solver.post_smoothing=2",
    "solver.coarse_steps=10",
)
ENDS = ("its end", "its end, last θ")
FOLDER = Path("runs/rmtr-study")


@dataclass(frozen=True)
class Study:
    """A network by its jobs, and what is changed in those of both methods and in RMTR's own.

    `references` are gradients after which TR's mean is a target too.
    """

    network: str
    both: Sequence[str] = ()
    rmtr: Sequence[str] = ()
    references: Sequence[int] = (20, 30)

    def job(self, ending: str, seed: int) -> Job:
        """Of a method, by the ending of its file's name."""
        changes = [f"seed={seed}", "parallel.threads=1", *self.both, *(() if ending else self.rmtr)]
        return load_job(f"jobs/rmtr/fashion-mnist-{self.network}{ending}.toml", changes)


SMALL = ("problem.samples=10000",)
STUDIES = {
    "dense": Study("dense"),
    "conv": Study("conv"),
    "dense-10k": Study(
        "dense",
        SMALL,
        (
            "solver.batch_size=5000",
            "solver.cascade=[{level=1, epochs=6.0, batch_size=1000, steps=5},"
            " {level=2, epochs=0.5, batch_size=5000, steps=5}]",
        ),
        references=(),
    ),
}


@dataclass(frozen=True)
class Curve:
    """What a run had spent, and its test accuracy then, in percent, each (N,)."""

    units: list[float]
    multiply_adds: list[float]
    seconds: list[float]
    accuracy: list[float]


@dataclass(frozen=True)
class Accuracies:
    """Of the test set over what had been spent, in percent, a row a run.

    Taken at (N,) points where any of the runs was measured; past its end a run keeps its last.
    """

    spent: np.ndarray
    accuracy: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Over the runs, (N,)."""
        return self.accuracy.mean(axis=0)

    def first(self, target: float) -> float:
        """What is spent where the mean has come to a target; NaN if it never has."""
        reached = np.flatnonzero(self.mean >= target)
        return float(self.spent[reached[0]]) if len(reached) else float("nan")

    def within(self, spent: float) -> np.ndarray:
        """What each run has come to within so much."""
        return self.accuracy[:, np.searchsorted(self.spent, spent, side="right") - 1]

    def at(self, spent: float) -> str:
        """Mean, least and greatest within so much; none past the end of the longest run."""
        if spent > self.spent[-1]:
            return ""
        values = self.within(spent)
        return f"{values.mean():.2f} ({values.min():.2f} … {values.max():.2f})"


def accuracies(curves: Sequence[Curve], cost: str, highest: bool = True) -> Accuracies:
    """The highest until then, or those of the last θ, over one of the costs of curves."""
    costs = [np.array(getattr(curve, cost)) for curve in curves]
    spent = np.unique(np.concatenate(costs))
    spent = spent[spent >= max(its[0] for its in costs)]
    values = [np.array(curve.accuracy) for curve in curves]
    if highest:
        values = [np.maximum.accumulate(each) for each in values]
    rows = [
        each[np.searchsorted(its, spent, side="right") - 1]
        for each, its in zip(values, costs, strict=True)
    ]
    return Accuracies(spent, np.array(rows))


def kept(name: str, job: Job, budget: float) -> Curve:
    """The run of a job, made if it is not there, or if another job made what is there."""
    path = FOLDER / f"{name}-seed{job.seed}.json"
    settings = json.loads(job.model_dump_json())
    if path.exists():
        known = json.loads(path.read_text())
        if known["job"] == settings:
            return Curve(**known["curve"])
    curve = train(job, budget)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"job": settings, "curve": asdict(curve)}))
    return curve


def train(job: Job, budget: float) -> Curve:
    """Trains by a job, alone and on one thread; the accuracy is measured between the steps."""
    problem = make_problem(job)
    objective = make_objective(problem, Communicator(), job.parallel.chunks, 1)
    solver = make_job_solver(job, objective)
    theta = problem.make_initial_parameters(job.seed)
    monitor = problem.make_monitor(objective.communicator, job.parallel.chunks, 1)
    levels = solver.networks
    for level in levels:  # each counts for itself, in its own costs
        share = problem.share(job.parallel.chunks, 0, 1, 1)
        level.counts = Counts(share.loss_cost, share.gradient_cost)
        if level is not levels[-1]:
            problem, _ = problem.coarsen(job.solver[0].transfer)
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
            accuracy = 100 * monitor.measure(state.point.theta)["test_accuracy"]
            rows.append((_work_units(counts), spent, seconds, accuracy))
            due = spent + EVERY
        if spent >= budget:
            return Curve(*map(list, zip(*rows, strict=True)))
        state, _ = measured(lambda state=state: solver.step(state))


def _work_units(counts: list[Counts]) -> float:
    """Of the levels' own counts, the finest first; K is halved from level to level."""
    evaluations = [each.gradient_evaluations + LOSS_WORK * each.loss_evaluations for each in counts]
    return sum(each / 2**depth for depth, each in enumerate(evaluations))


def compare(name: str, seeds: Sequence[int], pool: Executor) -> dict[str, list[Curve]]:
    """Trains a network by both methods on all seeds, and prints the tables."""
    curves = {
        method: _runs(
            f"{name}{ending}", [STUDIES[name].job(ending, seed) for seed in seeds], budget, pool
        )
        for (method, ending), budget in zip(METHODS.items(), BUDGETS, strict=True)
    }
    print(f"\n{name}, {len(seeds)} seeds: test accuracy in % within so many gradients\n")
    found = {method: accuracies(its, "multiply_adds") for method, its in curves.items()}
    table = [[name, method, *map(its.at, UNITS)] for method, its in found.items()]
    print(tabulate(table, headers=["", "", *UNITS], tablefmt="github"))
    print(f"\n{name}: to what TR has in the mean after some work\n")
    headers = ["", "TR after", "%", "work units", "by multiply-adds", "CPU s"]
    both = list(curves.values())
    races = [_race(*both, within=units) for units in STUDIES[name].references]
    races += [_race(*both), _race(*both, highest=False)]
    table = [
        [name, at, f"{race.target:.2f}", *map(str, race.quotients)]
        for at, race in zip(_targets(name), races, strict=True)
    ]
    print(write_markdown(headers, table))
    by_seed = [_race(*([its] for its in pair)).quotients[0] for pair in zip(*both, strict=True)]
    ratios = " ".join(f"{each.ratio:.2f}" for each in by_seed)
    print(
        f"\n{name}: work units by seed, RMTR / TR, to what TR has at its end: {ratios}", flush=True
    )
    return curves


def compare_controls(seeds: Sequence[int], pool: Executor) -> None:
    """Prints what cycles alone do on the dense network, by both controls: RMTR and MG/OPT."""
    table = []
    for control, cycle in CONTROLLED:
        changes = [f"solver.control={control}", f"solver.cycle={cycle}", *CYCLES]
        jobs = [Study("dense", SMALL, changes).job("", seed) for seed in seeds]
        found = accuracies(_runs(f"{control}-{cycle}", jobs, BUDGETS[0], pool), "multiply_adds")
        table.append([control, cycle, *map(found.at, UNITS[:5])])
    print(f"\ncycles alone, {len(seeds)} seeds: test accuracy in % within so many gradients\n")
    print(tabulate(table, headers=["control", "cycle", *UNITS[:5]], tablefmt="github"), flush=True)


def _runs(name: str, jobs: Sequence[Job], budget: float, pool: Executor) -> list[Curve]:
    """What is kept of jobs, which differ in their seeds."""
    return list(pool.map(partial(kept, name, budget=budget), jobs))


@dataclass(frozen=True)
class Quotient:
    """What RMTR and TR took, in one of the costs."""

    rmtr: float
    tr: float

    @property
    def ratio(self) -> float:
        return self.rmtr / self.tr

    def __str__(self) -> str:
        return f"{self.rmtr:.1f} / {self.tr:.1f} = {self.ratio:.2f}"


@dataclass(frozen=True)
class Race:
    """An accuracy in percent, and what both methods took to come to it, a quotient a cost."""

    target: float
    quotients: list[Quotient]


def _race(
    rmtr: list[Curve], tr: list[Curve], within: float = float("inf"), highest: bool = True
) -> Race:
    """What both take to what TR has in the mean within so many gradients."""
    target = float(accuracies(tr, "multiply_adds", highest).within(within).mean())
    quotients = [
        Quotient(*(accuracies(runs, cost, highest).first(target) for runs in (rmtr, tr)))
        for cost in ("units", "multiply_adds", "seconds")
    ]
    return Race(target, quotients)


def draw(found: dict[str, dict[str, list[Curve]]], output: Path) -> None:
    """Accuracy against work units, mean and range over the seeds, a panel for each network."""
    figure = make_figure(3.2 * len(found), 2.6)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for panel, (name, curves) in zip(panels, found.items(), strict=True):
        for number, (method, runs) in enumerate(curves.items()):
            its, style = accuracies(runs, "units"), choose_line_style(number)
            panel.plot(its.spent, its.mean, label=method, **style)
            low, high = its.accuracy.min(axis=0), its.accuracy.max(axis=0)
            panel.fill_between(its.spent, low, high, color=style["color"], alpha=0.2, linewidth=0)
        panel.set(title=name, xlabel="work units", ylabel="test accuracy, %")
        panel.set_ylim(bottom=65)
        panel.legend()
    save(figure, output)


def rows(words: Sequence[str]) -> list[str]:
    """The labels of the tables' rows, by their first two columns."""
    labels = list[str]()
    for name in _parser().parse_args(words).networks or DEFAULT:
        if name == CONTROLS:
            labels += [f"{control} | {cycle}" for control, cycle in CONTROLLED]
        else:
            labels += [f"{name} | {method}" for method in (*METHODS, *_targets(name))]
    return labels


def _targets(name: str) -> list[str]:
    """What TR has to be met, as the table of races names it."""
    return [*map(str, STUDIES[name].references), *ENDS]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="RMTR against the single-level trust region")
    names = ", ".join((*STUDIES, CONTROLS))
    parser.add_argument("networks", nargs="*", help=f"of {names}; by default dense and conv")
    parser.add_argument("-o", "--output", type=Path, help="a figure, *.png or *.pdf")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="seeds that run at a time")
    parser.add_argument("--seeds", type=int, default=10)
    return parser


def main() -> None:
    parser = _parser()
    args = parser.parse_args()
    if unknown := set(args.networks) - {*STUDIES, CONTROLS}:
        parser.error(f"no network {min(unknown)}: {', '.join((*STUDIES, CONTROLS))}")
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        wanted, seeds = args.networks or DEFAULT, range(args.seeds)
        found = {name: compare(name, seeds, pool) for name in wanted if name != CONTROLS}
        if CONTROLS in wanted:
            compare_controls(seeds, pool)
    if args.output:
        draw(found, args.output)


if __name__ == "__main__":
    main()
