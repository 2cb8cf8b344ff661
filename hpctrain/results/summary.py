"""The facts about a run that tables and figures show, read from its run file."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import InputError
from hpctrain.methods.outcomes import Outcome
from hpctrain.results.measures import Measure, find_measure
from hpctrain.store.run_file import TERM_LOSS, Run

NOT_COMPUTED = ("communication", "validation", "io")


class StudyError(InputError, ValueError):
    """What is asked of a table, a figure or a study does not exist."""


@dataclass(frozen=True)
class Reached:
    """The first record that is as good as a target, or better; its epoch may be NaN."""

    target: float
    iteration: int
    epoch: float
    seconds: float
    gradient_evaluations: float
    update_cost: float
    parallel_seconds: float


@dataclass(frozen=True)
class Summary:
    """A run, as a row of a table or a line of a figure shows it."""

    run: Run

    @cached_property
    def job(self) -> Mapping[str, Any]:
        """The resolved job file."""
        return tomllib.loads(self.run.job)

    @property
    def solver(self) -> str:
        """The names of its solvers, such as "adam + lbfgs"."""
        return " + ".join(str(stage.get("name", "?")) for stage in self.list_stages())

    def list_stages(self) -> list[Mapping[str, Any]]:
        """Lists the tables of the job's solvers in order."""
        given = self.job.get("solver", {})
        return given if isinstance(given, list) else [given]

    @property
    def problem(self) -> str:
        """The name of its problem; for a classifier that of its data."""
        return self._read_job("problem", "data", "name")

    @property
    def network(self) -> str:
        """The kind and size of its network, such as "residual 8x20" or "fcnn 32-32".

        "mlp 4x20 each" is of several, for fields or groups of them, "mlp 3x10, 8 subdomains" of one
        in each.
        """
        settings = self.job.get("network", {})
        size = [str(settings.get(key, "")) for key in ("depth", "width")]
        kind = self._read_job("network", "name", "kind")
        if "hidden" in settings:
            return f"{kind} {'-'.join(map(str, settings['hidden']))}"
        count = " each" if settings.get("separate") else ""
        cut = settings.get("subdomains") or {}
        sizes = (own if isinstance(own, int) else len(own) + 1 for own in cut.values())
        count += f", {math.prod(sizes)} subdomains" if cut else ""
        return f"{kind} {'x'.join(size)}{count}" if all(size) else kind

    @property
    def measure(self) -> Measure:
        """The measure by which it is judged."""
        return find_measure(self.run)

    @property
    def processes(self) -> str:
        """Ranks × threads."""
        environment = self.run.attributes
        return f"{environment.get('ranks', '?')}x{environment.get('threads', '?')}"

    def _read_job(self, table: str, *keys: str) -> str:
        settings = self.job.get(table, {})
        return str(next((settings[key] for key in keys if key in settings), "?"))

    def list_terms(self) -> list[str]:
        """Lists the terms of its loss that are recorded by themselves."""
        columns = (name for name in self.run.history if name.startswith(TERM_LOSS))
        return [name.removeprefix(TERM_LOSS) for name in columns]

    def find_final(self, column: str) -> float:
        """Returns a column at the end: as measured of the final θ, or else its last finite value.

        NaN where there is none.
        """
        if column in self.run.final:
            return self.run.final[column]
        values = self.read_column(column)
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else float("nan")

    def read_column(self, name: str) -> np.ndarray:
        """Reads a column of the history, or the parallel time; NaN where the run has none."""
        if name == "parallel_seconds":
            return self.parallel_seconds
        history = self.run.history
        return history.get(name, np.full(len(history["iteration"]), np.nan))

    @property
    def measured_at(self) -> float:
        """The iteration of the last known value of the measure; NaN if there is none."""
        if self.measure.column in self.run.final:
            return float(self.run.history["iteration"][-1])
        values = self.run.history.get(self.measure.column, np.empty(0))
        known = self.run.history["iteration"][: len(values)][np.isfinite(values)]
        return float(known[-1]) if len(known) else float("nan")

    @property
    def refused(self) -> float:
        """The number of iterations that took no step; NaN where the run does not say."""
        outcomes = self.run.history.get("outcome")
        if outcomes is None:
            return float("nan")
        taken = (Outcome.ACCEPTED.number, Outcome.DECREASE_FORCED.number)
        return float(np.count_nonzero(~np.isin(outcomes, taken)))

    def measure_time_shares(self) -> dict[str, float]:
        """Returns the share of each phase in the wall time of all, over records and ranks."""
        wall = np.nansum(self.run.phases[..., 0], axis=(0, 1))
        total = wall.sum()
        shares = wall / total if total > 0 else np.full(len(wall), np.nan)
        return dict(zip(self.run.phase_names, shares.tolist(), strict=True))

    @cached_property
    def parallel_seconds(self) -> np.ndarray:
        """The seconds (records,) that training would take with a core for each rank, by a model.

        Between two records with known phases, each phase of computation counts with the CPU time of
        the slowest rank. Communication counts as on the rank that spends least in it, since others
        also wait in it for the slowest one. It is NaN for other records.
        """
        run = self.run
        wall, cpu = (
            dict(zip(run.phase_names, run.phases.T[clock], strict=True)) for clock in (0, 1)
        )
        computed = [
            np.fmax.reduce(cpu[name]) for name in run.phase_names if name not in NOT_COMPUTED
        ]
        communicated = [np.fmin.reduce(wall[name]) for name in ("communication",) if name in wall]
        spent = np.sum([*computed, *communicated], axis=0)
        return np.where(np.isnan(spent), np.nan, np.nancumsum(spent))

    @property
    def asked(self) -> float | None:
        """The value of the measure at which the job was to stop."""
        return self.find_asked(self.measure)

    def find_asked(self, measure: Measure) -> float | None:
        """Returns the value of a measure at which the job was to stop."""
        return self.job.get("stop", {}).get(measure.key)

    def list_targets(self) -> list[Reached]:
        """Lists when the measure reached each mark and the value asked for, as far as it did."""
        targets = {*self.measure.marks, self.asked or self.measure.marks[0]}
        ordered = sorted(targets, reverse=not self.measure.rises)
        reached = [self.find_reached(target) for target in ordered]
        return [first for first in reached if first is not None]

    def find_reached(self, target: float) -> Reached | None:
        """Finds the first record that is as good as a target; None where there is none."""
        history = self.run.history
        values = history.get(self.measure.column, np.empty(0))
        there = np.flatnonzero(self.measure.is_reached(values, target))
        if not len(there):
            return None
        first = there[0]
        return Reached(
            target,
            int(history["iteration"][first]),
            float(history["epoch"][first]) if "epoch" in history else float("nan"),
            float(history["seconds"][first]),
            float(history["gradient_evaluations"][first]),
            float(history["update_cost"][first]),
            float(self.parallel_seconds[first]),
        )


def tell_apart(names: Sequence[str], files: Sequence[Path | str]) -> list[str]:
    """Makes names of runs differ: appends the file's name where two are equal, or else its path."""
    stems = [Path(file).stem for file in files]
    return [
        name if names.count(name) == 1 else f"{name} ({stem if stems.count(stem) == 1 else file})"
        for name, stem, file in zip(names, stems, files, strict=True)
    ]
