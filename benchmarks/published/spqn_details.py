"""L-BFGS and ASPQN on Burgers under one setting changed at a time: which makes the difference."""

from pathlib import Path
from typing import Any

from benchmarks.published.parts import NOT_YET, order_by_seed, repeat
from benchmarks.published.runs import JobRun
from benchmarks.runs import best_within, reached
from benchmarks.tables import write_markdown
from hpctrain.store.run_file import Run

TITLE = "SPQN: one detail at a time"
SEEDS = 3
BUDGET = 4000
GRADIENT = 0.014
COUNTS = ("nominal_gradient_evaluations", "gradient_evaluations")
METHODS = {"lbfgs": "L-BFGS", "aspqn": "ASPQN"}
# Of both methods, and of ASPQN alone.
COMMON: dict[str, dict[str, Any]] = {
    "as published": {},
    "no momentum": {"solver.momentum": 1.0},
    "m = 10 pairs": {"solver.memory": 10},
    "line search with c₂ = 0.5": {"solver.line_search.c2": 0.5},
    "single precision": {"precision": "float32"},
    "plain network": {"network.kind": "mlp"},
    "tanh, not adaptive": {"network.activation": "tanh"},
    "inputs in [-1, 1]": {"network.scale_inputs": True},
}
BLOCKS: dict[str, dict[str, Any]] = {
    "k_s = 10": {"solver.local_steps": 10},
    "pairs of blocks kept": {"solver.keep_local_memory": True},
    "both": {"solver.local_steps": 10, "solver.keep_local_memory": True},
    "a step length for each block": {"solver.synchronisation": "subspace"},
}

ABOUT = f"""\
Burgers, one setting changed in both methods or in ASPQN alone, {BUDGET:,} true gradients each: the
least error of each, and the least that both reach with what L-BFGS takes to it in units of what
ASPQN does. #g_e are gradients as the paper counts them, with a core or more for each block and
those of blocks as dear as others; above 1 ASPQN is ahead. The published ratio is 38.8, in minutes,
to 4.6e-4. Seeds in turn."""


def list_settings(method: str) -> dict[str, dict[str, Any]]:
    """What is changed, by the names of rows."""
    return COMMON | (BLOCKS if method == "aspqn" else {})


def plan_cell(method: str, detail: str) -> JobRun:
    """A run of equal true work; of L-BFGS as published where only blocks are changed."""
    settings = list_settings(method).get(detail, {}) | {
        "stop.max_gradient_evaluations": BUDGET,
        "stop.max_iterations": 10**6,
        "stop.error": 1e-12,
        "output.error_every": 1 if method == "aspqn" else 10,
        "output.checkpoint_every": 20 if method == "aspqn" else 1000,
    }
    return JobRun(f"burgers-{method}", settings, 1.3 * BUDGET * GRADIENT)


def plan(seeds: int) -> list[JobRun]:
    cells = [plan_cell(method, each) for method in METHODS for each in list_settings(method)]
    return order_by_seed([repeat(each, seeds) for each in cells])


def write(folder: Path, seeds: int) -> str:
    head = ["changed", *(f"{name}, error" for name in METHODS.values())]
    head += ["both reach", "ratio in #g_e", "in true gradients"]
    table = []
    for detail in list_settings("aspqn"):
        plans = zip(*(repeat(plan_cell(method, detail), seeds) for method in METHODS), strict=True)
        found = [[each.read(folder) for each in its if each.has_ended(folder)] for its in plans]
        pairs = [(pair[0], pair[1]) for pair in found if len(pair) == len(METHODS)]
        table.append([detail, *(_describe(pairs) if pairs else [NOT_YET, "", "", "", ""])])
    return f"{ABOUT}\n\n{write_markdown(head, table)}"


def _describe(pairs: list[tuple[Run, Run]]) -> list[str]:
    errors = [[best_within(run, BUDGET) for run in pair] for pair in pairs]
    common = [max(pair) for pair in errors]
    ratios = [
        [reached(lbfgs, error, each) / reached(aspqn, error, each) for each in COUNTS]
        for (lbfgs, aspqn), error in zip(pairs, common, strict=True)
    ]
    kinds = [*zip(*errors, strict=True), common]
    return [
        *(" ".join(f"{each:.1e}" for each in kind) for kind in kinds),
        *(" ".join(f"{each:.2f}" for each in kind) for kind in zip(*ratios, strict=True)),
    ]
