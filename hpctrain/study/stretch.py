"""Measures what the iterations of a run took, without the first ones: time by phase, and work.

The stretch begins at the first record after iteration 0 whose phases are known: what comes before
warms caches up, and does not count.
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
    """The measured iterations of a run."""

    run: Run

    @cached_property
    def _records(self) -> np.ndarray:
        """The records whose phases are known, from the one on that ends the warm-up."""
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
        """Raises a StudyError if there is nothing that can be timed."""
        _ = self._records

    def _measure_growth(self, column: str) -> float:
        values = self.run.history[column]
        return float(values[self._records[-1]] - values[self._records[0]])

    @property
    def iterations(self) -> int:
        return int(self._measure_growth("iteration"))

    @property
    def seconds(self) -> float:
        """Of training, measured on rank 0."""
        return self._measure_growth("seconds")

    @property
    def gradient_evaluations(self) -> float:
        return self._measure_growth("gradient_evaluations")

    def _phases(self, clock: int) -> dict[str, np.ndarray]:
        """Phase → seconds (intervals, ranks); clock 0 is wall time, 1 CPU time."""
        spent = self.run.phases[self._records[1:], :, :, clock]
        return {name: spent[:, :, i] for i, name in enumerate(self.run.phase_names)}

    @property
    def computed(self) -> np.ndarray:
        """CPU seconds of computation of each rank (ranks,)."""
        cpu = self._phases(1)
        return np.sum([cpu[name].sum(axis=0) for name in COMPUTED], axis=0)

    @property
    def imbalance(self) -> float:
        """Computation of the slowest rank over that of the average one."""
        return float(self.computed.max() / self.computed.mean())

    @property
    def wall_per_cpu(self) -> float:
        """Wall over CPU time of computation: below 1 where a rank has several threads."""
        wall = self._phases(0)
        return float(sum(wall[name].sum() for name in COMPUTED) / self.computed.sum())

    @property
    def traffic(self) -> tuple[float, float]:
        """Messages and bytes of the rank that has most of them."""
        messages, sent = self.run.traffic[self._records[1:]].sum(axis=0).max(axis=0)
        return float(messages), float(sent)

    def measure_shares(self) -> dict[str, float]:
        """Share → seconds of an average rank; what others communicate less, it waits."""
        wall = self._phases(0)
        shares = {name: float(wall[name].sum(axis=0).mean()) for name in COMPUTED}
        called = wall["communication"]
        least = float(called.min(axis=1).sum())
        return {**shares, "communication": least, "wait": float(called.sum(0).mean()) - least}

    def project_shares(self, network: Network, wall_per_cpu: float) -> dict[str, float]:
        """The same with a core for every thread of every rank; they add up to the time.

        Args:
            wall_per_cpu: how much of the CPU time of a rank passes on the clock.
        """
        cpu = {name: wall_per_cpu * self._phases(1)[name] for name in COMPUTED}
        shares = {name: float(spent.sum(axis=0).mean()) for name, spent in cpu.items()}
        slowest = sum(float(spent.max(axis=1).sum()) for spent in cpu.values())
        called = network.predict_seconds(*self.traffic)
        return {**shares, "communication": called, "wait": slowest - sum(shares.values())}
