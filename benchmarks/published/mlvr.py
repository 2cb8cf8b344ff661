"""MLVR with V-cycles as published, and with K-cycles, which are ours, on two sets."""

from pathlib import Path

from benchmarks.logistic import MLVR, SMALL_GAP
from benchmarks.logistic_runs import Run
from benchmarks.published.logistic import KeptRun
from benchmarks.published.parts import NOT_YET, describe_spread
from benchmarks.tables import write_markdown

TITLE = "MLVR: effective gradient evaluations"
SEEDS = 10
SETS = ("australian", "a9a")
SECONDS = 5.0
# Chosen on seeds 100 to 109 of both sets.
TENTH = """\
name = "mlvr"
levels = 2
coarsening_factor = 10
cascade = true
pre_smoothing = 0
post_smoothing = 1
coarse_steps = 2
coarse_tolerance = 0.3
cg_iterations = 15"""
OTHERS = {
    "MLVR2, a tenth": TENTH,
    "L-BFGS, m = 50": 'name = "lbfgs"\nmomentum = 1.0\nmemory = 50',
    "SSN 5 %, step 0.75": 'name = "ssn"\nshare = 0.05\nlearning_rate = 0.75',
    "SSN 10 %, step 0.75": 'name = "ssn"\nshare = 0.1\nlearning_rate = 0.75',
    "Newton": 'name = "newton"',
}

ABOUT = f"""\
Australian credit and a9a (`data/a9a.libsvm`, LIBSVM's Adult set). Logistic regression to
L - L* ≤ {SMALL_GAP.value:g}, at most {SMALL_GAP.budget:g} effective
gradient evaluations: mean (least … greatest; seeds), or what is left. MLVR2 and MLVR3 as
published: V-cycles, coarsening factor 2, 2 + 2 smoothing and 10 coarse steps, line-search
control. "MLVR2, a tenth" is the same cycle with constants of ours, those of
`jobs/logistic/australian-mlvr2-tenth.toml`. K-MLVR is ours: L-BFGS whose H₀ is a K-cycle of solves
with sub-sampled Hessians. The published result is a figure, in which MLVR2 and MLVR3 lead SVRG,
SARAH and SSN; those with tuned steps are in
[results](results.md#multilevel-in-samples-logistic-regression)."""


def list_rows() -> dict[str, str]:
    """The solvers by their names in the table."""
    rows = {
        f"{name}{levels}": form.format(levels=levels)
        for name, form in MLVR.items()
        for levels in (2, 3)
    }
    return rows | OTHERS


def plan_cell(name: str, on: str, seeds: int) -> list[KeptRun]:
    """The runs of a cell; L-BFGS and Newton draw nothing."""
    count = 1 if name in ("L-BFGS, m = 50", "Newton") else seeds
    return [KeptRun(on, list_rows()[name], seed, SMALL_GAP, SECONDS) for seed in range(count)]


def plan(seeds: int) -> list[KeptRun]:
    tasks = [each for on in SETS for name in list_rows() for each in plan_cell(name, on, seeds)]
    return sorted(tasks, key=lambda each: each.seed)


def write(folder: Path, seeds: int) -> str:
    table = []
    for name in list_rows():
        cells = [
            _describe([run for each in plan_cell(name, on, seeds) if (run := each.read(folder))])
            for on in SETS
        ]
        table.append([name, *cells])
    return f"{ABOUT}\n\n{write_markdown(['', *SETS], table)}"


def _describe(runs: list[Run]) -> str:
    """The work of the runs that got there, and the greatest gap of the others."""
    work = [run.end.effective for run in runs if run.reached]
    left = [run.left for run in runs if not run.reached]
    parts = [describe_spread(work)] if work else []
    if left:
        parts.append(f"{len(left)} of {len(runs)} not reached, {max(left):.1e} left at most")
    return "; ".join(parts) or NOT_YET
