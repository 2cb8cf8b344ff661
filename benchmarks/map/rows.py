"""Makes the map's rows out of measured cases and of counted runs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.map.measured import check_pair, count_work, read_case
from benchmarks.map.methods import METHODS, Method
from benchmarks.map.model import Case, Shares, Work
from benchmarks.runs import best_within
from hpctrain.store.run_file import Run
from hpctrain.study.projection import NETWORKS, Network, find_largest_useful

RANKS = tuple(2**k for k in range(10))
ON = {name: NETWORKS[name] for name in ("ethernet-10g", "infiniband-hdr")}


@dataclass(frozen=True)
class Row:
    """A method on a network, to an error.

    Attributes:
        method: which.
        case: as measured; None where short runs are missing.
        runs: those that count, by seed, ended or not.
        error: the error asked for.
        ratio: computation projected for two ranks over that measured; None without a case.
    """

    method: Method
    case: Case | None
    runs: tuple[Run, ...]
    error: float
    ratio: float | None

    @cached_property
    def work(self) -> Work | None:
        """The medians over the seeds; None where not all that began have reached the error."""
        found = [count_work(run, self.error) for run in self.runs]
        reached = [work for work in found if work is not None]
        if not reached or len(reached) < len(found):
            return None
        return Work(
            round(statistics.median(work.iterations for work in reached)),
            statistics.median(work.gradients for work in reached),
        )

    @property
    def least_error(self) -> float:
        """Of all runs so far; infinite without any."""
        return min((best_within(run, np.inf) for run in self.runs), default=float("inf"))

    @property
    def spent(self) -> float:
        """The most work of a run so far, in gradients."""
        return max((work.gradients for run in self.runs if (work := count_work(run))), default=0.0)

    @cached_property
    def _projected(self) -> dict[str, list[Shares]]:
        case, work = self.case, self.work
        if case is None or work is None:
            return {}
        return {name: [case.project(work, P, each) for P in RANKS] for name, each in ON.items()}

    def project(self, network: Network) -> list[Shares]:
        """The shares of its time on each of RANKS; empty where work or case is missing."""
        return self._projected.get(network.name, [])

    def find_best(self, network: Network) -> tuple[int, Shares] | None:
        """The rank count with the least time, and that; None where there is none."""
        shares = self.project(network)
        if not shares:
            return None
        return min(zip(RANKS, shares, strict=True), key=lambda each: each[1].seconds)

    def find_useful(self, network: Network) -> int:
        """The most ranks with an efficiency of at least a half."""
        return find_largest_useful(RANKS, [each.seconds for each in self.project(network)], False)


def make_rows(width: int, error: float, seeds: int, folder: Path) -> list[Row]:
    """All methods on a network: those with blocks that lose most first, then the others.

    Args:
        width: of the network.
        error: to be reached.
        seeds: how many.
        folder: of the runs.
    """
    rows = []
    for method in METHODS:
        case = read_case(method, width, folder)
        planned = [method.plan_count(width, seed) for seed in range(seeds)]
        runs = tuple(run for each in planned if (run := each.read(folder)))
        ratio = check_pair(case, folder) if case else None
        rows.append(Row(method, case, runs, error, ratio))
    return sorted(rows, key=lambda row: _rank(row, rows))


def find_rival(rows: Sequence[Row], network: Network) -> Row | None:
    """The quickest method without blocks, on as many ranks as it likes; None where none is."""
    there = [row for row in rows if not row.method.is_decomposed and row.project(network)]
    return min(there, key=lambda row: find_least(row, network), default=None)


def find_least(row: Row, network: Network) -> float:
    """The least projected seconds; infinite where there are none."""
    best = row.find_best(network)
    return best[1].seconds if best else float("inf")


def list_ratios(row: Row, rows: Sequence[Row]) -> list[float]:
    """A method's least seconds over those of the best one without blocks, on each network of ON.

    Infinite where it has not reached the error; none where no method without blocks has.
    """
    return [
        find_least(row, network) / find_least(rival, network)
        for network in ON.values()
        if (rival := find_rival(rows, network))
    ]


def _rank(row: Row, rows: Sequence[Row]) -> tuple[bool, bool, float]:
    """Orders rows: with blocks first, of these what ran, of these what loses most."""
    worst = max(list_ratios(row, rows), default=0.0)
    return not row.method.is_decomposed, not row.runs, -worst
