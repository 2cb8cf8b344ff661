"""Checkpoints: the whole state of a run, written by all ranks, and read by any number of them.

A checkpoint is a directory `DIRECTORY/<iteration>` with one HDF5 file of each rank, its part, and
`manifest.json`. The manifest says which value of the state lies in which part, and holds the size
and digest of every part and a digest of itself. Manifest and parts name the run, the iteration and
a number that was drawn for this checkpoint, so that a part of another one is found out.

All of it is written into a directory of another name, read again for the digests, and flushed to
the disk. Then it is renamed, in one step. So a directory with the name of an iteration was complete
when it got this name, and the digests tell whether it was damaged later.
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

FORMAT = "hpctrain-checkpoint/3"
MANIFEST = "manifest.json"
REPLACED = ".replaced"

T = TypeVar("T")


class CheckpointError(RunError):
    """A checkpoint could not be written; all ranks raise it alike."""


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
    """A complete checkpoint on disk. A rank reads it by itself; no call is collective.

    Attributes:
        path: its directory.
        iteration: the iteration of the run before which it was written.
        ranks: the number of ranks that wrote it. Any number can read it.
        extra: what the run stored beside the state.
        leaves: where each value of the state lies, by its path in the state.
    """

    path: Path
    iteration: int
    ranks: int
    extra: Mapping[str, Any]
    leaves: Mapping[str, StoredLeaf]

    def load(self) -> dict[str, Any]:
        """Reads all values, by path; matrices that were divided among ranks are put together."""
        leaves = StoredLeaves(self.path, self.leaves)
        return {k: v[:] if isinstance(v, StoredRows) else v for k, v in leaves.items()}

    def rows(self, path: str, first: int, last: int) -> Tensor:
        """Reads the rows first … last - 1 of a matrix that was divided among ranks."""
        return StoredRows(self.path, path, self.leaves[path])[first:last]

    def restore(self, template: Any, share: Share | None = None) -> Any:
        """Reads the blocks and rows of a share, and builds the state from them.

        Args:
            template, share: as `unflatten` takes them.

        Raises:
            StateError: the stored values do not fit the template.
        """
        return unflatten(template, StoredLeaves(self.path, self.leaves), share)


class CheckpointStore:
    """The checkpoints of one run, in a directory that all ranks see.

    All methods but `list_names` are collective: all ranks call them, and they return or raise alike
    on all.

    Args:
        directory: it is made when the first checkpoint is written.
        communicator: all ranks of the run.
        run: the identity of the run. None to read checkpoints of any run.
        keep: how many checkpoints are kept, the newest ones.
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
        """Writes the state as the checkpoint of an iteration, and removes the oldest checkpoints.

        It also removes those of later iterations. They belong to a course that the run has left,
        since it was resumed from an earlier one.

        Args:
            iteration: of the run.
            state: with this rank's blocks and rows. What is equal on all ranks is written by rank
                0.
            extra: what else is to be stored, of types that JSON has.
            blocks: the blocks that this rank writes, where several ranks hold the same one.

        Returns:
            The checkpoint's directory.

        Raises:
            CheckpointError: a rank failed. All earlier checkpoints are unchanged.
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
        """Finds the newest checkpoint that is complete; rank 0 warns of each damaged one.

        Args:
            until: the highest iteration to consider; by default any.

        Returns:
            The checkpoint, or None where there is none.
        """
        return self._communicator.run_on_root(
            lambda: _find_newest_whole(self.directory, self._run, until)
        )

    def list_names(self) -> list[str]:
        """Lists all checkpoints, damaged ones too, the newest first; not collective."""
        return [path.name for path in _list_checkpoints(self.directory)]

    def _make_origin(self, iteration: int) -> Origin:
        """Makes the name of a new checkpoint, equal on all ranks."""
        written = self._communicator.broadcast(secrets.token_hex(16))
        return Origin(self._run or "", iteration, written, self._communicator.size)

    def _on_root(self, function: Callable[[], T]) -> T:
        """Runs a function on rank 0; all ranks return its result or raise its failure.

        Raises:
            CheckpointError: it failed.
        """

        def attempt() -> T:
            try:
                return function()
            except (OSError, TypeError, ValueError) as error:
                raise CheckpointError(self._message(_describe(0, error))) from error

        return self._communicator.run_on_root(attempt)

    def _on_all(self, function: Callable[[], T]) -> list[T]:
        """Runs a function on each rank, and returns the results to rank 0.

        Raises:
            CheckpointError: it failed on a rank; the same error on all ranks.
        """
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
    """Computes the SHA-256 of a table, and so of the parts, whose digests are in it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _put_in_place(temporary: Path, iteration: int, keep: int) -> Path:
    """Renames a complete checkpoint to its iteration, and removes those that it replaces."""
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
    """Lists the directories of checkpoints, the newest first.

    One that another has replaced, but that is not removed yet, comes after that one.
    """
    named = [path for path in directory.glob("*") if path.name.removesuffix(REPLACED).isdecimal()]
    return sorted(named, key=lambda path: (-_parse_iteration(path), path.name))


def _find_newest_whole(directory: Path, run: str | None, until: int | None) -> Checkpoint | None:
    """Finds the newest undamaged checkpoint of a run, and warns of each damaged one."""
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
    """Reads the manifest of a checkpoint and compares all digests with its parts."""
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
