"""The tables of the suite, in Markdown; what hpctrain loses comes first."""

import math
import platform
import statistics
from collections.abc import Sequence

import numpy as np

from benchmarks.suite.plan import (
    BROYDEN_SHARE,
    BROYDEN_STAGNATION,
    GAUSS_NEWTON_STAGNATION,
    LARGEST_SYSTEM,
    Case,
    Plan,
)
from benchmarks.suite.results import SLOWER, Result, collect
from benchmarks.tables import write_markdown
from hpctrain.job.settings import parse_job
from hpctrain.networks.dense import DenseNetwork

RESULTS = ("equation", "error", "s to the published", "s", "published", "by", "source", "")
SETTINGS = ("equation", "network", "n", "points and weights", "solvers", "of the published error")

# What a renewal of points does to them, by `problem.adapt.points`.
RENEWED = {
    "fresh": "all drawn anew",
    "r3": "R3",
    "rad": "RAD",
}


def write_tables(plans: Sequence[Plan], cases: Sequence[Case]) -> str:
    """Writes how many rows were won, the errors beside the published ones, and what was run.

    Args:
        plans: by their time, the shortest first, with the same seeds and ranks.
        cases: the rows.
    """
    results = sorted(collect(plans, cases), key=_rank)
    seeds = len(plans[0].seeds)
    times = ", then ".join(f"{plan.seconds:g} s" for plan in plans)
    again = " for rows that are lost" if len(plans) > 1 else ""
    own = f"{_count(seeds, 'seed')}, {_count(plans[0].ranks, 'rank')} of a thread, {times}{again}"
    return "\n\n".join(
        [
            f"Relative L2 errors, the largest over the fields, at the end: medians, lowest and"
            f" highest. Runs: {own} ({platform.machine()}, {platform.system()}). Seconds of"
            " training. Rows that are lost come first, the furthest from the published error"
            " before all.",
            count_wins(results),
            write_markdown(RESULTS, [_write_result(each, seeds) for each in results]),
            f"All rows are trained by self-scaled Broyden, until its loss has not been halved in"
            f" {BROYDEN_STAGNATION} iterations or {BROYDEN_SHARE:.0%} of the time is over, then by"
            f" Gauss-Newton until its loss has not been halved in {GAUSS_NEWTON_STAGNATION}"
            " iterations or the time is over; by Broyden alone where N n min(N, n) is above"
            f" {LARGEST_SYSTEM:.0e} for N points and n parameters. Sums of random Fourier features,"
            " which have no hidden layer, are trained by Gauss-Newton from an orthogonal"
            " factorisation of J alone. Windows of time share the time evenly. Rows differ in what"
            " follows, and in nothing else:",
            write_markdown(SETTINGS, [_write_setting(each) for each in results]),
            *explain_losses(results),
        ]
    )


def explain_losses(results: Sequence[Result]) -> list[str]:
    """Why rows are lost, those that are and where it is known."""
    rows = [each.case.row for each in results if each.is_lost and each.case.row.lost]
    if not rows:
        return []
    return ["## What is lost, and why", "\n".join(f"- *{row.name}.* {row.lost}" for row in rows)]


def count_wins(results: Sequence[Result]) -> str:
    """How many rows were won and lost."""
    won = [each for each in results if each.is_won]
    lost = sum(each.is_lost for each in results)
    timely = sum(each.is_in_time for each in won)
    without = sum(each.case.row.error is None for each in results)
    missing = len(results) - len(won) - lost - without
    return (
        f"At or below the published error: {len(won)} of {len(won) + lost} rows, {timely} of them"
        f" in at most {SLOWER} times the published time where that is known; lost: {lost}; without"
        f" a published error: {without}; not run: {missing}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _rank(result: Result) -> float:
    """By which rows are sorted: the highest ratio first, those without one last."""
    return math.inf if math.isnan(result.ratio) else -result.ratio


def _write_result(result: Result, seeds: int) -> list[str]:
    row = result.case.row
    name = row.name if row.measure == "error" else f"{row.name}, {row.measure}"
    published = "none known" if row.error is None else f"{row.error:.2g}"
    seconds = None if row.seconds is None else f"{row.seconds:,.0f} s"
    how = ", ".join(filter(None, (row.method, row.hardware, seconds)))
    if not result.errors:
        return [name, "not run", "", "", published, how, row.source, ""]
    median = statistics.median(result.errors)
    error = f"{median:.1e}" if math.isfinite(median) else "not all windows"
    if len(result.errors) > 1 and math.isfinite(median):
        error += f" ({min(result.errors):.1e} to {max(result.errors):.1e})"
    if len(result.errors) < seeds:
        error += f", {len(result.errors)} of {seeds} seeds"
    whole = f"{statistics.median(result.seconds):.0f}"
    first = _describe_seconds(result)
    return [name, error, first, whole, published, how, row.source, _describe_verdict(result)]


def _describe_seconds(result: Result) -> str:
    if result.case.row.error is None:
        return ""
    median = statistics.median(result.seconds_to_published)
    return f"{median:.3g}" if math.isfinite(median) else "not reached"


def _describe_verdict(result: Result) -> str:
    if math.isnan(result.ratio):
        return ""
    if result.is_lost:
        return f"lost, {result.ratio:.2g} times" if math.isfinite(result.ratio) else "lost"
    return "won" if result.is_in_time else "won, slower"


def _write_setting(result: Result) -> list[str]:
    case, problem = result.case, result.case.problem
    points = [
        f"{term.samples:,} {term.name}" + (f" × {term.weight:g}" if term.weight != 1 else "")
        for term in problem.terms
    ]
    adapt = problem.adapt
    if adapt is not None and adapt.points is not None:
        points.append(f"{RENEWED[adapt.points]} every {adapt.every} iterations")
    if case.windows > 1:
        points.append(f"in each of {case.windows} windows")
    return [
        case.row.name,
        _describe_network(case),
        f"{problem.parameters:,}",
        ", ".join(points),
        _describe_solvers(result),
        case.row.note,
    ]


def _describe_solvers(result: Result) -> str:
    """The solvers, with the iterations that each took in the first run."""
    if not result.finished:
        return ", ".join(stage["name"] for stage in result.case.list_stages(1.0))
    run = result.finished[0]
    names = [stage.name for stage in parse_job(run.job, str(run.path)).solver]
    stages = run.history.get("stage", np.ones(len(run.history["seconds"])))[1:].astype(int)
    counts = [(name, int(((stages - 1) % len(names) == k).sum())) for k, name in enumerate(names)]
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def _describe_network(case: Case) -> str:
    frequencies = case.problem.formulation.fourier
    features = "" if frequencies is None else f", {len(frequencies)} random frequencies"
    solution = case.problem.solution
    one = solution.network.parts[: len(solution.parts)]
    described = " + ".join(map(_describe_part, one)) + features
    cover = solution.subdomains
    return described if cover is None else f"{cover.count} subdomains: {described}"


def _describe_part(network: DenseNetwork) -> str:
    """One of the networks of a problem."""
    kind = "modified " if network.gated else "residual " if network.residual else ""
    activation = "adaptive " * network.adaptive + network.activation
    if network.depth == 1:
        return "linear"
    return f"{kind}{network.depth} × {network.width}, {activation}"
