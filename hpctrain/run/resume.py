"""What a run goes on from: its job, its last whole checkpoint, and the history up to there."""

import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.job.kept_settings import ALLOWED, is_allowed, list_added, list_changes
from hpctrain.job.overrides import Overrides, find_setting, read_overrides
from hpctrain.job.own_code import check_unchanged, list_own_files
from hpctrain.job.settings import Job, parse_job
from hpctrain.job.stop import NON_FINITE, RUNNING
from hpctrain.kernels.builds import VARIABLE
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.parts import Parts, Tally
from hpctrain.solvers import Solver
from hpctrain.solvers.base import Record
from hpctrain.store.checkpoint import Checkpoint, CheckpointStore
from hpctrain.store.files import name_checkpoint_folder
from hpctrain.store.run_file import Run, read_run
from hpctrain.store.state import Share, StateError, flatten

# Between the kernels that a run had one after the other.
THEN = ", then "


class ResumeError(InputError):
    """A run that cannot go on; the message names the file and the remedy."""


@dataclass(frozen=True)
class Stored:
    """The states in a checkpoint: the solver's, and what the loss depends on beside θ."""

    solver: Any
    loss: Any = None


@dataclass(frozen=True)
class Kept:
    """What a checkpoint holds beside the solver's state.

    Attributes:
        record: of the last step, by which a resumed run judges again whether to stop.
        monitored: what the monitor said last.
        counts: the work done, as `objective.Counts` has it.
        wall_seconds: since the run was first started, without the time between its parts.
        job: the `list_kept` of its job.
    """

    tally: Tally
    record: Record
    monitored: Mapping[str, float]
    counts: Mapping[str, float]
    wall_seconds: float
    job: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "record": self.record.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Kept":
        tally, record = Tally.from_json(content["tally"]), Record.from_json(content["record"])
        return cls(**{**content, "tally": tally, "record": record})


@dataclass(frozen=True)
class Past:
    """A run that goes on.

    Attributes:
        path: its run file.
        identity: what tells it from all other runs.
        job: its job, with what was changed for the rest of the run.
        stop_reason: what its file says of its end.
        kernels: by which it was made so far, one after the other; "" where the file has none.
        checkpoint: where it goes on; None if it was killed before its first checkpoint.
    """

    path: Path
    identity: str
    job: Job
    stop_reason: str
    kernels: str
    checkpoint: Checkpoint | None

    @property
    def is_begun(self) -> bool:
        """Whether there is an iterate to go on from, so that θ₀ is not needed any more."""
        return self.checkpoint is not None

    def add_kernels(self, now: str) -> str:
        """All kernels of the run, one after the other, given those that it goes on with."""
        if not self.kernels:
            return now
        return self.kernels if self._last_kernels == now else f"{self.kernels}{THEN}{now}"

    def warn_of_kernels(self, now: str) -> None:
        """Warns where the run goes on with kernels that round differently."""
        if self._last_kernels not in ("", now):
            warnings.warn(
                f"{self.path}: goes on with other kernels, {now}, in the place of"
                f" {self._last_kernels}: its numbers are not those of a run that was never"
                f" interrupted ({VARIABLE} chooses kernels)",
                stacklevel=2,
            )

    @property
    def _last_kernels(self) -> str:
        return self.kernels.split(THEN)[-1]

    def read_history(self) -> Run:
        """Reads the records that the run keeps, up to its checkpoint; called on one rank."""
        return read_run(self.path).keep_until(self.checkpoint.iteration if self.checkpoint else -1)


@dataclass(frozen=True)
class _Found:
    """What a run file says of its run.

    Attributes:
        job: its text.
        own_code: the digests of the files that it names.
        last: the last iteration; -1 where none is recorded.
    """

    identity: str
    job: str
    own_code: str
    stop_reason: str
    kernels: str
    last: int


def find_past(
    run_file: str, overrides: Overrides, communicator: Communicator, changed_code: bool = False
) -> Past:
    """Reads the job and the last checkpoint of a run that goes on; collective.

    It runs no code of the user's.

    Args:
        changed_code: files that the job names may be others than those that the run began with.

    Raises:
        InputError: the run file cannot be read, an override is not allowed, such a file has
            changed, or there is no checkpoint left that is whole.
    """
    path = Path(run_file)
    found = communicator.run_on_root(lambda: _read(path, overrides))
    job = communicator.run_on_all(lambda: parse_job(found.job, str(path), overrides))
    if not changed_code:
        communicator.run_on_root(lambda: check_unchanged(list_own_files(job), found.own_code, path))
    store = CheckpointStore(name_checkpoint_folder(path), communicator, found.identity)
    checkpoint = store.find_latest(until=found.last)
    if checkpoint is None:
        communicator.run_on_root(lambda: _check_early(path, found, store))
    else:
        _check_same(path, job, checkpoint, communicator)
    return Past(path, found.identity, job, found.stop_reason, found.kernels, checkpoint)


def _read(path: Path, overrides: Overrides) -> _Found:
    """What the run file says.

    Raises:
        InputError: an override is not allowed.
    """
    run = read_run(path)
    for override in read_overrides(overrides):
        if not is_allowed(run.job, override):
            raise ResumeError(
                f"{override.said}: a resumed run keeps this setting; allowed are {ALLOWED}"
            )
    iterations = run.history["iteration"]
    return _Found(
        identity=str(run.attributes.get("run", "")),
        job=run.job,
        own_code=run.own_code,
        stop_reason=run.stop_reason,
        kernels=str(run.attributes.get("kernels", "")),
        last=int(iterations[-1]) if len(iterations) else -1,
    )


def _check_same(path: Path, job: Job, checkpoint: Checkpoint, communicator: Communicator) -> None:
    """A run goes on with its job; rank 0 says what a newer hpctrain adds to it."""
    kept = checkpoint.extra["job"]
    if changes := list_changes(kept, job):
        raise ResumeError(
            f"{path}: cannot be resumed, {checkpoint.path} is of another job: {', '.join(changes)}"
        )
    if (added := list_added(kept, job)) and communicator.is_root:
        warnings.warn(
            f"{path}: begun by an hpctrain without these settings, which have their defaults now:"
            f" {', '.join(added)}",
            stacklevel=2,
        )


def _check_early(path: Path, found: _Found, store: CheckpointStore) -> None:
    """A run without a checkpoint starts again, if it was killed before it wrote its first."""
    if store.directory.exists() and store.list_names():
        names = ", ".join(store.list_names())
        raise ResumeError(
            f"{path}: cannot be resumed, none of its checkpoints is whole ({store.directory}:"
            f" {names}); run the job again into another file"
        )
    ended = found.stop_reason not in (RUNNING.text, NON_FINITE.text)
    period = find_setting(tomllib.loads(found.job), "output.checkpoint_every")  # of the run so far
    if ended or found.last > period > 0:
        raise ResumeError(
            f"{path}: cannot be resumed, its checkpoints are missing: put them back as"
            f" {store.directory}, or run the job again into another file"
        )
    warnings.warn(f"{path}: no checkpoint yet, the run starts again", stacklevel=2)


def restore(checkpoint: Checkpoint, solver: Solver[Any], parts: Parts, theta: Tensor) -> Any:
    """Restores a run from a checkpoint; collective.

    Returns the solver's state as this rank holds it. The counts of work go back to the objective,
    the state of the loss to its renewal.

    Args:
        solver: of the stage that the run was in.
        theta: any θ (n,): the state that the solver starts from there says what to build.

    Raises:
        StateError: the stored state is not of this solver, or a part of it found no rank.
    """
    communicator, renewal = parts.objective.communicator, parts.renewal
    example = Stored(solver.init(theta), renewal.state if renewal else None)
    stored = checkpoint.restore(example, Share(None, solver.find_rows, theta.device))
    taken = communicator.allgather({leaf.path for leaf in flatten(stored)})
    if forgotten := checkpoint.leaves.keys() - set().union(*taken):
        raise StateError(f"{checkpoint.path}: no rank takes up {', '.join(sorted(forgotten))}")
    for name, value in Kept.from_json(checkpoint.extra).counts.items():
        setattr(parts.objective.counts, name, value)
    if renewal is not None:
        renewal.take(stored.loss)
    return stored.solver
