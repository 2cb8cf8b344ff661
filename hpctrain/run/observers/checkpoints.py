"""Writes what a run goes on from, every so many iterations and at its end."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from hpctrain.run.output import Output
from hpctrain.run.parts import Moment, Parts
from hpctrain.run.resume import Kept, Stored
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.files import name_checkpoint_folder


class Checkpoints:
    """Writes the checkpoints of one run.

    Args:
        parts: what the run is made of.
        output: the run file, beside which they lie, or none.
        sync: sees to it that the records up to now are on the disk, collectively: a checkpoint
            counts on them.
        period: iterations from one to the next; 0 for one at the end only.
        job: the `list_kept` of the job.
    """

    def __init__(
        self,
        parts: Parts,
        output: Output,
        sync: Callable[[], None],
        period: int,
        job: Mapping[str, Any],
    ) -> None:
        self._parts = parts
        self._sync = sync
        self._period = period
        self._job = job
        place = name_checkpoint_folder(output.path) if output.path else None
        ranks = parts.place.ranks
        self._store = CheckpointStore(place, ranks, output.identity) if place else None

    def is_due(self, iteration: int) -> bool:
        """Whether a checkpoint is due after so many iterations."""
        return self._period > 0 and iteration % self._period == 0

    def write(self, state: Any, moment: Moment, led: list[int]) -> None:
        """Writes the solver's state and what else a run goes on from; collective.

        Args:
            led: the solver's, see `Solver.led`.
        """
        if self._store is None:
            return
        kept = Kept(
            moment.tally,
            moment.record,
            moment.known,
            asdict(self._parts.objective.counts),
            moment.wall_seconds,
            self._job,
        )
        with self._parts.place.ranks.timer.phase("io"):
            self._sync()
            renewal = self._parts.renewal
            stored = Stored(state, renewal.state if renewal else None)
            self._store.write(moment.tally.iteration, stored, kept.to_json(), led)
