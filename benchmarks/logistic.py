"""Compares K-MLVR, ASTROM-E and baselines: `python -m benchmarks.logistic [SET]… [--tables T…]`.

What is published of MLVR and ASTROM is in `benchmarks.published`. Sets are australian and
gisette-like; tables are mlvr and astrom; by default
all. `-o FOLDER` draws a figure of each table, with seed 0. Settings of the baselines are chosen on
the seeds of TUNING and reported on those of SEEDS. Runs are kept in a file (`--kept`), so that a
study can be made in pieces; remove it after a change of a solver. Table and figures are those of
docs/results.md.
"""

import argparse
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from benchmarks.logistic_figures import Curves, astrom_figure, mlvr_figure
from benchmarks.logistic_runs import DATA, Kept, Run, Stage, Study, Target, study
from benchmarks.tables import write_markdown
from hpctrain.results.style import SETTINGS

SMALL_GAP = Target("gap", 1e-8, 150)
SMALL_GRADIENT = Target("gradient_norm", 1e-6, 400)
SEEDS = tuple(range(10))
# By set: seeds of the baselines' settings, and those on which slow baselines are reported; a run of
# SVRG or SARAH on gisette-like takes 360,000 steps.
TUNING = {"australian": (100, 101, 102), "gisette-like": (100,)}
FEW_SEEDS = {"australian": SEEDS, "gisette-like": SEEDS[:3]}
SINGLE_SAMPLE_SEEDS = {"australian": SEEDS, "gisette-like": SEEDS[:1]}
# Of first-order methods: step sizes over 1 / L_max, L_max = max ‖x_j‖² / 4 + λ.
STEPS = (0.2, 0.5, 2.0, 10.0, 20.0)
NEWTON_STEPS = (0.1, 0.25, 0.5, 0.75, 1.0)
SMALL_NEWTON_STEPS = (0.01, 0.03, 0.1, 0.3, 1.0)
TABLES = ("astrom", "mlvr")
ASTROM_ROWS = (
    "iterations",
    "∇L",
    "∇²L",
    "CG, by share",
    "CG, each",
    "effective evaluations",
    "reached",
    "greatest ‖∇L‖",
)
SHARES = (0.01, 0.1, 0.25, 0.5)
# The smallest sample of Australian in the published figure.
FIGURE_SHARE = 0.02
# MLVR has one setting for all sets, its defaults: as published, and with K-cycles, which are ours.
MLVR = {
    "MLVR": 'name = "mlvr"\nlevels = {levels}',
    "K-MLVR": 'name = "mlvr-krylov"\nlevels = {levels}',
}
SSN = 'name = "ssn"\nshare = {share}\nlearning_rate = {step}'
FIRST_ORDER = {
    "SVRG": 'name = "svrg"\nlearning_rate = {rate}',
    "SARAH": 'name = "sarah"\nlearning_rate = {rate}',
    "gradient descent": 'name = "sgd"\nmomentum = 0.0\nlearning_rate = {rate}',
}
LBFGS = 'name = "lbfgs"\nmomentum = 1.0\nmemory = {memory}'
ASTROM = 'name = "astrom"\nshare = {share}'
# As published, and where the samples grow also after an accepted step, by a test that is ours.
OURS = "ASTROM-E"
GROWTH = {"ASTROM": "", OURS: "\nmodel_error = 0.1"}


@dataclass(frozen=True)
class Bench:
    """A set and the file of its runs."""

    on: Study
    kept: Kept

    def runs(self, solver: str, seeds: Iterable[int], target: Target) -> list[Run]:
        return [self.kept.run(self.on, solver, seed, target) for seed in seeds]

    def best(self, solvers: dict[str, str], target: Target) -> str:
        """The name of the setting that does best on the seeds for tuning."""
        seeds = TUNING[self.on.name]
        return min(solvers, key=lambda each: _merit(self.runs(solvers[each], seeds, target)))


def _merit(runs: list[Run]) -> tuple[int, float]:
    """Less is better: runs that failed; then the mean work, or the mean of log what is left."""
    failed = sum(not run.reached for run in runs)
    if failed:
        return failed, statistics.mean(math.log(run.left) for run in runs)
    return 0, statistics.mean(run.end.effective for run in runs)


def rows(words: list[str]) -> list[str]:
    """The labels of the tables' rows; of the table of ASTROM those of its columns."""
    asked, labels = _parser().parse_args(words), list[str]()
    if "astrom" in asked.tables:
        named = (f"{kind} {100 * share:g} %" for kind in (OURS, "SSN") for share in SHARES)
        labels += ["TR", *named, *ASTROM_ROWS]
    if "mlvr" in asked.tables:
        labels += [f"{name}{levels}" for name in MLVR for levels in (2, 3)]
        labels += [f"SSN {100 * share:g} %" for share in SHARES]
        labels += ["SSN", "SVRG", "SARAH", "L-BFGS, m = 20", "L-BFGS, m = 50"]
        labels += ["Newton", "gradient descent"]
    return labels


def mlvr_table(bench: Bench) -> Curves:
    """Prints the work to the target, every baseline at its best of five step sizes."""
    few, table, curves = FEW_SEEDS[bench.on.name], list[list[str]](), Curves()

    def add(name: str, setting: str, solver: str, seeds: Iterable[int], drawn: bool) -> None:
        runs = bench.runs(solver, seeds, SMALL_GAP)
        table.append([name, setting, *_summary(runs)])
        if drawn:
            curves[name] = runs[0].stages

    def add_best(name: str, solvers: dict[str, str], seeds: Iterable[int], drawn: bool) -> None:
        chosen = bench.best(solvers, SMALL_GAP)
        add(name, f"{chosen}, of {len(solvers)}", solvers[chosen], seeds, drawn)

    rates = {name: _first_order(bench.on, form) for name, form in FIRST_ORDER.items()}
    for name, form in MLVR.items():
        for levels in (2, 3):
            seeds = few if name == "MLVR" else SEEDS
            add(f"{name}{levels}", "defaults", form.format(levels=levels), seeds, True)
    shares = {f"SSN {100 * share:g} %": _sub_sampled_newton(share) for share in SHARES}
    for name, solvers in shares.items():
        add_best(name, solvers, few, False)
    every = {f"{name[4:]}, {at}": one for name, by in shares.items() for at, one in by.items()}
    add_best("SSN", every, few, True)
    for name in ("SVRG", "SARAH"):
        add_best(name, rates[name], SINGLE_SAMPLE_SEEDS[bench.on.name], True)
    for memory in (20, 50):
        add(f"L-BFGS, m = {memory}", "", LBFGS.format(memory=memory), (0,), memory == 50)
    add("Newton", "", 'name = "newton"', (0,), False)
    add_best("gradient descent", rates["gradient descent"], (0,), False)
    headers = ["method", "setting", "mean", "least", "greatest", "reached", "greatest gap"]
    print(f"\n{bench.on.name}: effective gradient evaluations to L - L* <= {SMALL_GAP.value:g}\n")
    print(write_markdown(headers, table), flush=True)
    return curves


def _summary(runs: list[Run]) -> list[str]:
    """Mean, least and greatest work of the runs that got there, and how far the worst other got."""
    work = [run.end.effective for run in runs if run.reached]
    figures = (statistics.mean(work), min(work), max(work)) if work else ()
    shown = [f"{value:.1f}" for value in figures] or ["", "", ""]
    worst = max(runs, key=lambda run: run.left)
    left = "" if worst.reached else f"{worst.left:.1e} after {worst.end.effective:.0f}"
    return [*shown, f"{len(work)} of {len(runs)}", left]


def _sub_sampled_newton(share: float, steps: Iterable[float] = NEWTON_STEPS) -> dict[str, str]:
    return {f"{step:g}": SSN.format(share=share, step=step) for step in steps}


def _first_order(on: Study, form: str) -> dict[str, str]:
    return {f"{step:g} / L_max": form.format(rate=step / on.largest_curvature) for step in STEPS}


def astrom_table(bench: Bench) -> Curves:
    """Prints means to the target, and returns what is drawn."""
    shares = SHARES if bench.on.name == "gisette-like" else (FIGURE_SHARE, *SHARES)
    few, curves = FEW_SEEDS[bench.on.name], Curves()
    header, columns = list[str](), list[list[str]]()

    def add(name: str, setting: str, runs: list[Run], share: float | None = None) -> None:
        header.append(name + setting)
        columns.append(_cells(runs, share))
        curves[name] = runs[0].stages

    runs = bench.runs(ASTROM.format(share=1.0), SEEDS[:1], SMALL_GRADIENT)
    add("TR", "", runs)
    for share in sorted(shares):
        solver = ASTROM.format(share=share) + GROWTH[OURS]
        add(f"{OURS} {100 * share:g} %", "", bench.runs(solver, SEEDS, SMALL_GRADIENT))
    for share in sorted(shares):
        solvers = _sub_sampled_newton(share, SMALL_NEWTON_STEPS)
        step = bench.best(solvers, SMALL_GRADIENT)
        size = max(1, round(share * bench.on.problem.samples)) / bench.on.problem.samples
        runs = bench.runs(solvers[step], few, SMALL_GRADIENT)
        add(f"SSN {100 * share:g} %", f" ({step})", runs, size)
    table = [[row, *(column[k] for column in columns)] for k, row in enumerate(ASTROM_ROWS)]
    print(f"\n{bench.on.name}: to ‖∇L‖ <= {SMALL_GRADIENT.value:g}\n")
    print(write_markdown(["", *header], table), flush=True)
    return curves


def read_figures(runs: list[Run], share: float | None) -> list[float]:
    """Means of what `ASTROM_ROWS` name first, but for its last two; of SSN given its share."""
    ends = [run.end for run in runs]
    rows = [_astrom_figures(s) if share is None else _ssn_figures(s, share) for s in ends]
    return [float(mean) for mean in np.mean(rows, axis=0)]


def _astrom_figures(s: Stage) -> list[float]:
    return [s.iterations, s.gradients, s.hessians, s.shared_cg, s.cg, s.effective]


def _ssn_figures(s: Stage, size: float) -> list[float]:
    """The same of sub-sampled Newton, which makes one Hessian of a part of the samples a step."""
    cg = s.effective - s.gradients
    return [s.iterations, s.gradients, s.iterations * size, cg, cg / size, s.effective]


def _cells(runs: list[Run], share: float | None) -> list[str]:
    """Means over the runs that got there; over all, and marked, if none did."""
    there = [run for run in runs if run.reached]
    mark = "" if there else "> "
    shown = [f"{mark}{mean:.1f}" for mean in read_figures(there or runs, share)]
    reached = f"{len(there)} of {len(runs)}"
    return [*shown, reached, f"{max(run.left for run in runs):.1e}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="MLVR and ASTROM on logistic regression")
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(DATA))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--kept", type=Path, default=Path("runs/logistic.jsonl"))
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="of the figures")
    return parser


def main() -> None:
    parser = _parser()
    chosen = parser.parse_args()
    names: Any = chosen.sets or list(DATA)
    if unknown := set(names) - set(DATA):
        parser.error(f"{', '.join(unknown)}: sets are {', '.join(DATA)}")
    torch.set_num_threads(1)
    kept, compared = Kept(chosen.kept), dict[str, Curves]()
    for name in names:
        bench = Bench(study(name), kept)
        print(f"\n{bench.on.problem.describe()}, L* = {bench.on.minimum:.12g}", flush=True)
        if "astrom" in chosen.tables:
            curves = astrom_table(bench)
            if chosen.output and name == "australian":
                with matplotlib.rc_context(SETTINGS):
                    names = ("TR", f"{OURS} 2 %", "SSN 2 %")
                    shown = {each: curves[each] for each in names}
                    samples, target = bench.on.problem.samples, SMALL_GRADIENT.value
                    astrom_figure(shown, samples, target, chosen.output / "logistic-astrom.png")
        if "mlvr" in chosen.tables:
            compared[name] = mlvr_table(bench)
    if chosen.output and compared:
        with matplotlib.rc_context(SETTINGS):
            mlvr_figure(compared, SMALL_GAP.value, chosen.output / "logistic-mlvr.png")


if __name__ == "__main__":
    main()
