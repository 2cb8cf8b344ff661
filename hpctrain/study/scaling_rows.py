"""The results of a scaling study: a row for each rank count, in tables and as columns."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from hpctrain.results import report as tables
from hpctrain.results.report import Cell, Row
from hpctrain.results.summary import Summary
from hpctrain.store.run_file import Run
from hpctrain.study import projection
from hpctrain.study.projection import Network
from hpctrain.study.stretch import SHARES, Stretch

BYTES = {"float64": 8, "float32": 4}
# Solvers whose inverse Hessian lies by rows over the ranks.
BY_ROWS = ("ssbfgs", "ssbroyden")
MODEL = (
    "projected: per phase the CPU time of the slowest rank, on ranks that shared cores, and"
    " messages and bytes as counted, over the network named here; a model, not a measurement"
)


@dataclass(frozen=True)
class ScalingRow:
    """The results on P ranks.

    Attributes:
        ranks: P.
        measured: whether `seconds` was measured; else it is projected.
        seconds, lowest, highest: the median and the range over the runs.
        shares: how many seconds each share took, in the run of the median.
        projected_seconds: what the model says. Where `seconds` was measured, it is for the network
            on which the runs were.
        messages, bytes: in an iteration, of the rank that has most of them.
        memory_mb: the most memory that a rank had in use.
        rows_mb: the memory of n²/P numbers of a dense inverse Hessian; 0 where there is none.
    """

    ranks: int
    measured: bool
    seconds: float
    lowest: float
    highest: float
    shares: Mapping[str, float]
    projected_seconds: float
    imbalance: float
    messages: float
    bytes: float
    iterations: int
    gradient_evaluations: float
    samples: int
    memory_mb: float
    rows_mb: float
    speed_up: float = 0.0

    @property
    def efficiency(self) -> float:
        """S_P / P, the parallel efficiency."""
        return self.speed_up / self.ranks


@dataclass(frozen=True)
class Scaling:
    """The results of a scaling study."""

    rows: tuple[ScalingRow, ...]
    weak: bool
    network: Network
    threads: int
    job: str
    host: str

    @property
    def kind(self) -> str:
        """ "strong" or "weak"."""
        return "weak" if self.weak else "strong"

    @property
    def largest_useful(self) -> int:
        """The largest rank count that is worth while; see `find_largest_useful`."""
        ranks = [row.ranks for row in self.rows]
        return projection.find_largest_useful(ranks, [row.seconds for row in self.rows], self.weak)


def make_scaling(
    runs: Mapping[int, Sequence[Run]],
    measurable: Collection[int],
    weak: bool,
    network: Network,
    here: Network,
    threads: int,
) -> Scaling:
    """Makes the results out of the runs.

    Args:
        runs: the runs of each rank count.
        measurable: the rank counts for which there are enough cores.
        weak: whether the samples grow with the ranks.
        network: for which times are projected.
        here: on which the runs were, for comparing projected with measured times.
        threads: of each rank.
    """
    first = next(iter(runs.values()))
    per_cpu = median(Stretch(run).wall_per_cpu for run in first) if threads > 1 else 1.0
    rows = [
        _make_row(P, each, P in measurable, here if P in measurable else network, per_cpu)
        for P, each in runs.items()
    ]
    ranks, seconds = [row.ranks for row in rows], [row.seconds for row in rows]
    found = zip(rows, projection.compute_speed_ups(ranks, seconds, weak), strict=True)
    completed = tuple(replace(row, speed_up=S) for row, S in found)
    host = str(first[0].attributes.get("host", ""))
    return Scaling(completed, weak, network, threads, first[0].job, host)


def _count_samples(problem: Mapping[str, Any], run: Run) -> int:
    """Those that the job asks for: points of an equation; or else all that there are."""
    asked = (problem.get(key) for key in ("points", "samples"))
    return int(next((each for each in asked if each), run.attributes["samples"]))


def _make_row(
    ranks: int, runs: Sequence[Run], measured: bool, network: Network, per_cpu: float
) -> ScalingRow:
    """Makes the row of one rank count."""
    stretches = [Stretch(run) for run in runs]
    models = [stretch.project_shares(network, per_cpu) for stretch in stretches]
    projected = [sum(shares.values()) for shares in models]
    times = [stretch.seconds for stretch in stretches] if measured else projected
    middle = int(np.argsort(times)[(len(times) - 1) // 2])
    stretch, run = stretches[middle], runs[middle]
    messages, sent = stretch.traffic
    job = tomllib.loads(run.job)
    n = int(run.attributes["parameters"])
    by_rows = any(stage["name"] in BY_ROWS for stage in Summary(run).list_stages())
    matrix = n * n * BYTES[job["precision"]] / 2**20 if by_rows else 0.0
    return ScalingRow(
        ranks=ranks,
        measured=measured,
        seconds=median(times),
        lowest=min(times),
        highest=max(times),
        shares=stretch.measure_shares() if measured else models[middle],
        projected_seconds=median(projected),
        imbalance=median(each.imbalance for each in stretches),
        messages=messages / stretch.iterations,
        bytes=sent / stretch.iterations,
        iterations=stretch.iterations,
        gradient_evaluations=stretch.gradient_evaluations,
        samples=_count_samples(job["problem"], run),
        memory_mb=max(float(each.attributes["peak_memory_mb"]) for each in runs),
        rows_mb=matrix / ranks,
    )


def report(scaling: Scaling, style: str = "text") -> str:
    """Writes tables of the times and of their shares, with notes; in CSV a row for each P."""
    if style == "csv":
        return tables.format_csv([_list_numbers(row) for row in scaling.rows])
    title = f"{scaling.kind.capitalize()} scaling: time of the timed iterations, median [range]"
    parts = [
        tables.format_table(title, [_make_time_row(row) for row in scaling.rows], style),
        tables.format_table("Where it goes", [_make_share_row(row) for row in scaling.rows], style),
        "\n".join(_write_notes(scaling)),
    ]
    return "\n\n".join(parts) + "\n"


def list_columns(scaling: Scaling) -> dict[str, list[Any]]:
    """Returns the columns that are stored, with a value for each rank count."""
    numbers = [_list_numbers(row) for row in scaling.rows]
    return {name.replace(" ", "_"): [row[name] for row in numbers] for name in numbers[0]}


def _list_numbers(row: ScalingRow) -> Row:
    plain: dict[str, Cell] = {
        "ranks": row.ranks,
        "how": _say_how(row),
        "seconds": row.seconds,
        "lowest": row.lowest,
        "highest": row.highest,
        "projected seconds": row.projected_seconds,
        "speed-up": row.speed_up,
        "efficiency": row.efficiency,
    }
    shares = {f"{name} seconds": row.shares[name] for name in SHARES}
    more = {
        "imbalance": row.imbalance,
        "messages": row.messages,
        "bytes": row.bytes,
        "iterations": row.iterations,
        "gradient evals": row.gradient_evaluations,
        "samples": row.samples,
        "memory MB": row.memory_mb,
        "H rows MB": row.rows_mb,
    }
    return {**plain, **shares, **more}


def _say_how(row: ScalingRow) -> str:
    return "measured" if row.measured else "projected"


def _make_time_row(row: ScalingRow) -> Row:
    return {
        "ranks": row.ranks,
        "time": _say_how(row),
        "seconds": f"{row.seconds:.4g} [{row.lowest:.4g}, {row.highest:.4g}]",
        "speed-up": f"{row.speed_up:.2f}",
        "efficiency": f"{row.efficiency:.1%}",
        "iterations": row.iterations,
        "gradient evals": row.gradient_evaluations,
        "samples": row.samples,
        "memory/rank MB": f"{row.memory_mb:.0f}",
        **({"H rows/rank MB": f"{row.rows_mb:.1f}"} if row.rows_mb else {}),
    }


def _make_share_row(row: ScalingRow) -> Row:
    total = sum(row.shares.values())
    return {
        "ranks": row.ranks,
        **{name: f"{row.shares[name] / total:.1%}" for name in SHARES},
        "imbalance": f"{row.imbalance:.3f}",
        "messages/iteration": f"{row.messages:.1f}",
        "kB/iteration": f"{row.bytes / 1e3:.4g}",
    }


def _write_notes(scaling: Scaling) -> list[str]:
    falls = "" if scaling.weak else ", and a time that still falls"
    notes = [
        f"largest useful number of ranks of these: {scaling.largest_useful}"
        f" (efficiency at least 50 %{falls})",
        f"network: {scaling.network}; imbalance: CPU time of computation, slowest rank / mean",
        "local, global: computation of an average rank, with evaluations; wait: for the slowest",
    ]
    notes += [
        f"P = {row.ranks}: projected {row.projected_seconds:.4g} s, measured {row.seconds:.4g} s,"
        f" ratio {row.projected_seconds / row.seconds:.3f}"
        for row in scaling.rows
        if row.measured and row.ranks > 1
    ]
    if not all(row.measured for row in scaling.rows):
        notes.append(MODEL)
    if any(row.rows_mb for row in scaling.rows):
        notes.append("H rows: n²/P numbers of the inverse Hessian, once it is a dense matrix")
    return notes
