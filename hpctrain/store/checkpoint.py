"""Checkpoints: a run's whole state, written by all ranks, read back on any number of them.

A checkpoint is a directory `DIRECTORY/<iteration>` with one HDF5 part a rank and `manifest.json`:
which leaf of the state lies in which part, the size and digest of each part, and a digest of these.
The table and each part name the run, the iteration and the parts that were written together: a part
of another checkpoint is damage. It is written under a temporary name, read back for its digests,
synced, and then takes its name in one step. So a directory of that name is complete, unless it was
damaged later, which the digests tell.
"""

import hashlib
import json
import secrets
import shutil
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from hpctrain.errors import RunError
from hpctrain.store import files
from hpctrain.store.parts import (
    Origin,
    Part,
    StoredLeaf,
    StoredLeaves,
    StoredRows,
    merge_leaves,
    name_part,
    to_json,
    verify_leaves,
    write_part,
)
from hpctrain.store.state import Share, unflatten

FORMAT = "hpctrain-checkpoint/2"
MANIFEST = "manifest.json"
REPLACED = ".replaced"

T = TypeVar("T")


class CheckpointError(RunError):
    """A checkpoint that could not be written, raised alike on all ranks."""


class Communicator(Protocol):
    """What checkpoints need of a communicator."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def gather(self, value: Any) -> list[Any] | None: ...
    def broadcast(self, value: Any) -> Any: ...
    def run_on_root(self, function: Callable[[], T]) -> T: ...


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk. Reading it is not collective.

    Args:
        ranks: number of ranks that wrote it; any number may read it.
        extra: what the writer added to the state.
        leaves: path in the state → where that leaf is.
    """

    path: Path
    iteration: int
    ranks: int
    extra: Mapping[str, Any]
    leaves: Mapping[str, StoredLeaf]

    def load(self) -> dict[str, Any]:
        """Path → value for all leaves, with distributed matrices joined to whole tensors."""
        leaves = StoredLeaves(self.path, self.leaves)
        return {k: v[:] if isinstance(v, StoredRows) else v for k, v in leaves.items()}

    def rows(self, path: str, first: int, last: int) -> Tensor:
        """The rows `first` to `last - 1` of a distributed matrix, in whichever parts they lie."""
        return StoredRows(self.path, path, self.leaves[path])[first:last]

    def restore(self, template: Any, share: Share | None = None) -> Any:
        """The state, for a template and a share as `unflatten` takes them.

        Only the blocks and rows of the share are read.

        Raises:
            StateError: the stored leaves do not fit the template.
        """
        return unflatten(template, StoredLeaves(self.path, self.leaves), share)


class CheckpointStore:
    """The checkpoints of one run, in one directory that all ranks see.

    Its methods are collective: every rank calls them, and they return or raise alike on all.

    Args:
        directory: made when the first checkpoint is written.
        run: the run's identity; None reads checkpoints of any.
        keep: how many of the newest checkpoints stay.
    """

    def __init__(
        self,
        directory: Path | str,
        communicator: Communicator,
        run: str | None = None,
        keep: int = 2,
    ) -> None:
        self.directory = Path(directory)
        self._communicator = communicator
        self._run = run
        self._keep = keep

    def write(
        self,
        iteration: int,
        state: Any,
        extra: Mapping[str, Any] | None = None,
        blocks: Collection[int] | None = None,
    ) -> Path:
        """Write the state as the checkpoint of this iteration, then remove the oldest ones.

        Checkpoints of later iterations belong to a course that the run has left (it was resumed
        from before them), and go too.

        Args:
            state: this rank's blocks and rows, and the replicated rest, of which rank 0's is kept.
            extra: whatever else is to be kept, of what JSON can hold.
            blocks: where several ranks hold the state of a block, the blocks this rank writes.

        Returns:
            The checkpoint's directory.

        Raises:
            CheckpointError: a rank failed; all earlier checkpoints are as they were.
        """
        temporary = self.directory / f".tmp-{iteration}"
        try:
            self._on_root(lambda: _make_empty(self.directory, temporary))
            rank = self._communicator.rank
            origin = self._make_origin(iteration)
            parts = self._on_all(lambda: write_part(temporary, rank, state, origin, blocks))
            self._on_root(lambda: _write_manifest(temporary, origin, parts, extra or {}))
            return self._on_root(lambda: _put_in_place(temporary, iteration, self._keep))
        except CheckpointError:
            self._communicator.run_on_root(lambda: shutil.rmtree(temporary, ignore_errors=True))
            raise

    def find_latest(self, until: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that is whole; a damaged one is named in a warning on rank 0.

        Args:
            until: leave out those of later iterations.
        """
        return self._communicator.run_on_root(
            lambda: _find_newest_whole(self.directory, self._run, until)
        )

    def list_names(self) -> list[str]:
        """The checkpoints that are there, whole or not, the newest first; not collective."""
        return [path.name for path in _list_checkpoints(self.directory)]

    def _make_origin(self, iteration: int) -> Origin:
        """That of a new checkpoint, equal on all ranks."""
        written = self._communicator.broadcast(secrets.token_hex(16))
        return Origin(self._run or "", iteration, written, self._communicator.size)

    def _on_root(self, function: Callable[[], T]) -> T:
        """Rank 0's result on all ranks, or its failure as a `CheckpointError`."""

        def attempt() -> T:
            try:
                return function()
            except (OSError, TypeError, ValueError) as error:
                raise CheckpointError(self._message(_describe(0, error))) from error

        return self._communicator.run_on_root(attempt)

    def _on_all(self, function: Callable[[], T]) -> list[T]:
        """The results of all ranks, for rank 0; if any failed, all raise the same error."""
        result: T | None = None
        failure: Exception | None = None
        try:
            result = function()
        except Exception as error:  # of any kind, since the other ranks wait to hear of it
            failure = error
        report = failure and _describe(self._communicator.rank, failure)
        gathered = self._communicator.gather((result, report)) or []
        reports = self._communicator.broadcast([report for _, report in gathered if report])
        if reports:
            raise CheckpointError(self._message("; ".join(reports))) from failure
        return [result for result, _ in gathered]

    def _message(self, reason: str) -> str:
        return f"no checkpoint was written in {self.directory}, earlier ones stand: {reason}"


def _describe(rank: int, error: Exception) -> str:
    return f"rank {rank}: {type(error).__name__}: {error}"


def _make_empty(directory: Path, temporary: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for left_over in directory.glob(".tmp-*"):
        shutil.rmtree(left_over)
    temporary.mkdir()


def _write_manifest(
    directory: Path, origin: Origin, parts: list[Part], extra: Mapping[str, Any]
) -> None:
    content = {
        "format": FORMAT,
        "origin": asdict(origin),
        "parts": {part.name: {"size": part.size, "sha256": part.sha256} for part in parts},
        "leaves": to_json(merge_leaves(parts)),
        "extra": extra,
    }
    content = json.loads(json.dumps(content))  # as it will be read: keys are strings
    manifest = directory / MANIFEST
    manifest.write_text(json.dumps({"sha256": _compute_digest(content), "content": content}))
    files.sync(manifest)
    files.sync(directory)


def _compute_digest(content: Any) -> str:
    """SHA-256 of a table, and so of all parts, whose digests are in it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _put_in_place(temporary: Path, iteration: int, keep: int) -> Path:
    """Give the checkpoint its name, then remove what it makes superfluous."""
    directory = temporary.parent
    target = directory / f"{iteration:08d}"
    if target.exists():
        replaced = target.with_name(target.name + REPLACED)
        shutil.rmtree(replaced, ignore_errors=True)
        files.rename(target, replaced)
    files.rename(temporary, target)
    older = [path for path in _list_checkpoints(directory) if _parse_iteration(path) < iteration]
    kept = {target, *older[: keep - 1]}
    for path in _list_checkpoints(directory):
        if path not in kept:
            files.remove_tree(path, directory / f".tmp-{path.name}")
    return target


def _parse_iteration(path: Path) -> int:
    return int(path.name.removesuffix(REPLACED))


def _list_checkpoints(directory: Path) -> list[Path]:
    """Newest first; what a checkpoint has replaced, and is not yet removed, comes after it."""
    named = [path for path in directory.glob("*") if path.name.removesuffix(REPLACED).isdecimal()]
    return sorted(named, key=lambda path: (-_parse_iteration(path), path.name))


def _find_newest_whole(directory: Path, run: str | None, until: int | None) -> Checkpoint | None:
    for path in _list_checkpoints(directory):
        if until is not None and _parse_iteration(path) > until:
            warnings.warn(f"{path}: left out, the run file ends at {until}", stacklevel=2)
            continue
        try:
            return _verify(path, run)
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            warnings.warn(f"{path}: damaged, the one before it is used: {error}", stacklevel=2)
    return None


def _verify(path: Path, run: str | None) -> Checkpoint:
    manifest = json.loads((path / MANIFEST).read_bytes())
    content = manifest["content"]
    if _compute_digest(content) != manifest["sha256"]:
        raise ValueError(f"{MANIFEST} does not match its digest")
    if content["format"] != FORMAT:
        raise ValueError(f"{MANIFEST} is of format {content['format']}, not {FORMAT}")
    origin = Origin(**content["origin"])
    if origin.iteration != _parse_iteration(path):
        raise ValueError(f"{MANIFEST} is of iteration {origin.iteration}")
    if run is not None and origin.run != run:
        raise ValueError(f"{MANIFEST} is of another run")
    if content["parts"].keys() != set(map(name_part, range(origin.ranks))):
        raise ValueError(f"{MANIFEST} does not name {origin.ranks} parts")
    for name, part in content["parts"].items():
        Part(name, part["size"], part["sha256"], {}).verify(path, origin)
    leaves = {name: StoredLeaf.from_json(leaf) for name, leaf in content["leaves"].items()}
    verify_leaves(path, content["parts"], leaves)
    return Checkpoint(path, origin.iteration, origin.ranks, content["extra"], leaves)
