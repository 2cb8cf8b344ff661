"""Measures the time of a run's iterations by phase, and their work, without the first ones.

The measurement begins at the first record after iteration 0 whose phases are known. What comes
before fills caches, and does not count.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpctrain.results.summary import StudyError
from hpctrain.store.run_file import Run
from hpctrain.study.projection import Network

COMPUTED = ("local", "global")
SHARES = (*COMPUTED, "communication", "wait")


@dataclass(frozen=True)
class Stretch:
    """The iterations of a run that are measured."""

    run: Run

    @cached_property
    def _records(self) -> np.ndarray:
        """The records that are measured: those with known phases, behind the warm-up."""
        iterations = self.run.history["iteration"]
        known = np.isfinite(self.run.phases).any(axis=(1, 2, 3)) & (iterations > 0)
        records = np.flatnonzero(known)
        if len(records) < 2:
            raise StudyError(
                f"{self.run.path}: ended after {iterations.max(initial=0)} iterations, too few to"
                " be timed: at least two records of the error are needed (output.error_every)"
            )
        return records

    def check(self) -> None:
        """Raises a StudyError if no iteration can be measured."""
        _ = self._records

    def _measure_growth(self, column: str) -> float:
        """Returns by how much a column of the history grew."""
        values = self.run.history[column]
        return float(values[self._records[-1]] - values[self._records[0]])

    @property
    def iterations(self) -> int:
        """The number of iterations."""
        return int(self._measure_growth("iteration"))

    @property
    def seconds(self) -> float:
        """The seconds of training, measured on rank 0."""
        return self._measure_growth("seconds")

    @property
    def gradient_evaluations(self) -> float:
        """The number of gradient evaluations."""
        return self._measure_growth("gradient_evaluations")

    def _phases(self, clock: int) -> dict[str, np.ndarray]:
        """Returns the seconds (intervals, ranks) by phase; clock 0 is wall time, 1 CPU time."""
        spent = self.run.phases[self._records[1:], :, :, clock]
        return {name: spent[:, :, i] for i, name in enumerate(self.run.phase_names)}

    @property
    def computed(self) -> np.ndarray:
        """The CPU seconds of computation of each rank, (ranks,)."""
        cpu = self._phases(1)
        return np.sum([cpu[name].sum(axis=0) for name in COMPUTED], axis=0)

    @property
    def imbalance(self) -> float:
        """The computation of the slowest rank, divided by the mean over ranks."""
        return float(self.computed.max() / self.computed.mean())

    @property
    def wall_per_cpu(self) -> float:
        """The wall time of computation divided by its CPU time: below 1 with several threads."""
        wall = self._phases(0)
        return float(sum(wall[name].sum() for name in COMPUTED) / self.computed.sum())

    @property
    def traffic(self) -> tuple[float, float]:
        """The messages and bytes of the rank that has most of them."""
        messages, sent = self.run.traffic[self._records[1:]].sum(axis=0).max(axis=0)
        return float(messages), float(sent)

    def measure_shares(self) -> dict[str, float]:
        """Returns the seconds of each share for a mean rank.

        A rank that communicates less than the others has waited for them in this time.
        """
        wall = self._phases(0)
        shares = {name: float(wall[name].sum(axis=0).mean()) for name in COMPUTED}
        called = wall["communication"]
        least = float(called.min(axis=1).sum())
        return {**shares, "communication": least, "wait": float(called.sum(0).mean()) - least}

    def project_shares(self, network: Network, wall_per_cpu: float) -> dict[str, float]:
        """Returns the shares as they would be with a core for every thread of every rank.

        They add up to the projected time.

        Args:
            network: by which messages travel.
            wall_per_cpu: the wall time of computation, divided by its CPU time.
        """
        cpu = {name: wall_per_cpu * self._phases(1)[name] for name in COMPUTED}
        shares = {name: float(spent.sum(axis=0).mean()) for name, spent in cpu.items()}
        slowest = sum(float(spent.max(axis=1).sum()) for spent in cpu.values())
        called = network.predict_seconds(*self.traffic)
        return {**shares, "communication": called, "wait": slowest - sum(shares.values())}
