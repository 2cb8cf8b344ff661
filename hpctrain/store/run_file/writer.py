"""Writes a run file record by record, so that others can read it while it grows."""

import operator
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from hpctrain.store import attributes, files
from hpctrain.store.attributes import Scalar
from hpctrain.store.claim import Claim
from hpctrain.store.run_file.contents import (
    FORMAT_NAME,
    FORMAT_VERSION,
    RUNNING,
    ColumnType,
    Iterates,
    Run,
    RunFileError,
    compute_row_checks,
)
from hpctrain.store.run_file.ending import replace_by_finished
from hpctrain.store.run_file.reader import holds_no_record
from hpctrain.store.run_file.rows import CHUNK_BYTES, Rows
from hpctrain.store.space import Reserve
from hpctrain.store.version import find_version

# Disk space that HDF5 may take for an index when a record is added, above that of its chunks.
RESERVED_BYTES = 2**16


@dataclass(frozen=True)
class Entry:
    """A record, and what was measured since the one before.

    Attributes:
        row: a value for every column; NaN where a floating-point column has none.
        phases: (ranks, phases, 2), wall and CPU seconds.
        traffic: (ranks, 2), messages and bytes.
    """

    row: Mapping[str, float | int]
    phases: np.ndarray | None = None
    traffic: np.ndarray | None = None


class RunWriter:
    """Writes a run file, on rank 0. A record is in the file when `append` or `extend` returns.

    Args:
        path: of the new file. Nothing may be there, unless the run is resumed.
        job: the resolved job file (TOML).
        environment: single values by name, kept as root attributes (ranks, threads, host,
            versions).
        columns: the type of each column of the history; `iteration` must be among them.
        phases: the names of the timed phases.
        ranks: the number of ranks whose phases are recorded.
        iterate_size: n, if snapshots of θ (n,) are to be written.
        past: what a resumed run keeps of the file at `path`,
            `read_run(path).keep_until(iteration)`. A new file that begins with these records
            replaces it.
        claim: the right to write the file, which is released when the file is closed.

    Raises:
        RunFileError: there is a run already, or it does not fit the one that is resumed.
        InUseError: another process writes the file.
        OSError: the file cannot be made.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        job: str,
        environment: Mapping[str, Scalar],
        columns: Mapping[str, ColumnType],
        phases: Sequence[str],
        ranks: int,
        iterate_size: int | None = None,
        past: Run | None = None,
        claim: Claim | None = None,
    ) -> None:
        self.path = Path(path)
        self._claim = claim or Claim(self.path)
        row_bytes = (len(columns) + 3) * CHUNK_BYTES + 8 * (iterate_size or 0)
        self._ahead = 2 * row_bytes + RESERVED_BYTES
        with ExitStack() as undo:
            undo.callback(self._claim.release)
            self._check_place(past, columns, phases)
            temporary = self._claim.build()
            Reserve(temporary).keep(self._ahead + (past.nbytes if past else 0))
            self._file = undo.enter_context(h5py.File(temporary, "w", libver="latest"))
            self._reserve = Reserve(temporary)
            self._reserve.keep(self._ahead + (past.nbytes if past else 0))
            attributes.write(self._file, _make_attributes(job, environment, past))
            self._create_datasets(columns, phases, ranks, iterate_size, past)
            self._file.swmr_mode = True
            self._claim.put_in_place()
            undo.pop_all()
        self._reserve = Reserve(self.path)

    def _check_place(
        self, past: Run | None, columns: Mapping[str, ColumnType], phases: Sequence[str]
    ) -> None:
        resumed = past is not None and past.path == self.path
        if self.path.exists() and not resumed and not holds_no_record(self.path):
            raise RunFileError(f"{self.path}: exists already; choose another with -o, or remove it")
        if past is not None:
            _check_fits(past, columns, phases)

    def _create_datasets(
        self,
        columns: Mapping[str, ColumnType],
        phases: Sequence[str],
        ranks: int,
        iterate_size: int | None,
        past: Run | None,
    ) -> None:
        history = self._file.create_group("history")
        types = {name: _make_dtype(kind) for name, kind in columns.items()}
        # An earlier version may have written narrower numbers, of which the checks are others.
        kept = {name: old.astype(types[name]) for name, old in past.history.items()} if past else {}
        self._columns = {
            name: Rows(history, name, dtype, past=kept.get(name)) for name, dtype in types.items()
        }
        checks = compute_row_checks(kept) if past else None
        self._checks = Rows(self._file, "checks", np.dtype("i8"), past=checks)
        self._ranks = ranks
        timed = past.phases if past else np.empty((0, ranks, len(phases), 2))
        shape = (max(ranks, timed.shape[1]), len(phases), 2)
        self._phases = Rows(self._file, "phases", np.dtype("f8"), shape, timed)
        attributes.write(self._file["phases"], {"names": phases, "clocks": ["wall", "cpu"]})
        sent = past.traffic if past else np.empty((0, ranks, 2))
        self._traffic = Rows(self._file, "traffic", np.dtype("f8"), (shape[0], 2), sent)
        attributes.write(self._file["traffic"], {"names": ["messages", "bytes"]})
        self._iterates = None
        if iterate_size is not None:
            group = self._file.create_group("iterates")
            none = Iterates(np.empty(0, np.int64), np.empty((0, iterate_size)))
            old = (past and past.iterates) or none
            checks = compute_row_checks({"theta": old.theta, "iteration": old.iteration})
            self._iterates = (
                Rows(group, "theta", np.dtype("f8"), (iterate_size,), old.theta),
                Rows(group, "checks", np.dtype("i8"), past=checks),
                Rows(group, "iteration", np.dtype("i8"), (), old.iteration),
            )

    def append(
        self,
        row: Mapping[str, float | int],
        phases: np.ndarray | None = None,
        traffic: np.ndarray | None = None,
    ) -> None:
        """Appends a record, as an `Entry` has it; raises as `extend`."""
        self.extend([Entry(row, phases, traffic)])

    def extend(self, entries: Sequence[Entry]) -> None:
        """Appends records, at least one; for several together it takes hardly longer than for one.

        Raises:
            RunFileError: a column is unknown or missing, or a value or an array does not fit.
            OSError: the disk is full. All earlier records are in the file.
        """
        columns = self._gather_columns([entry.row for entry in entries])
        phases = [self._fill_by_rank("phases", self._phases, each.phases) for each in entries]
        traffic = [self._fill_by_rank("traffic", self._traffic, each.traffic) for each in entries]
        arrays = (*columns.values(), *phases, *traffic)
        new = sum(each.nbytes for each in arrays if each is not None)
        self._reserve.keep(self._file.id.get_filesize() + self._ahead + new)
        _append_known(self._phases, phases)
        _append_known(self._traffic, traffic)
        for name, column in self._columns.items():
            if name != "iteration":
                column.append(columns[name])
        self._checks.append(compute_row_checks(columns))
        self._columns["iteration"].append(columns["iteration"])

    def _gather_columns(self, rows: Sequence[Mapping[str, float | int]]) -> dict[str, np.ndarray]:
        """The values (records,) of each column."""
        for row in rows:
            if row.keys() != self._columns.keys():
                unknown = sorted(row.keys() - self._columns.keys())
                missing = sorted(self._columns.keys() - row.keys())
                raise RunFileError(f"{self.path}: columns unknown {unknown}, missing {missing}")
        return {name: self._convert(name, [row[name] for row in rows]) for name in self._columns}

    def _convert(self, name: str, values: Sequence[float | int]) -> np.ndarray:
        dtype = self._columns[name].dtype
        try:
            return np.array([*map(operator.index, values)] if dtype.kind in "iu" else values, dtype)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            message = f"{self.path}: column {name} holds {dtype}, given was {[*values]}"
            raise RunFileError(message) from error

    def _fill_by_rank(self, name: str, rows: Rows, given: np.ndarray | None) -> np.ndarray | None:
        """A row out of what was measured; None where nothing was."""
        if given is None:
            return None
        expected = (self._ranks, *rows.shape[1:])
        if given.shape != expected:
            raise RunFileError(f"{self.path}: {name} of shape {given.shape}, not {expected}")
        row = np.full(rows.shape, np.nan)
        row[: self._ranks] = given
        return row

    def append_iterate(self, iteration: int, theta: np.ndarray) -> None:
        """Appends a snapshot of θ (n,). The writer must have been given `iterate_size`."""
        if self._iterates is None or theta.shape != self._iterates[0].shape:
            expected = self._iterates and self._iterates[0].shape
            raise RunFileError(f"{self.path}: iterate of shape {theta.shape}, not {expected}")
        thetas, checks, iterations = self._iterates
        columns = {
            "theta": theta.astype(np.float64, copy=False)[None],
            "iteration": np.array([iteration], np.int64),
        }
        thetas.append(columns["theta"])
        checks.append(compute_row_checks(columns))
        iterations.append(columns["iteration"])

    def finish(
        self,
        stop_reason: str,
        solution: Mapping[str, np.ndarray] | None = None,
        facts: Mapping[str, Scalar | Sequence[str]] | None = None,
        parameters: np.ndarray | None = None,
        phases: np.ndarray | None = None,
        traffic: np.ndarray | None = None,
    ) -> None:
        """Ends the run: a complete file with the solution replaces the growing one.

        Args:
            stop_reason: why the run ended.
            solution: the arrays `prediction` and, where it is known, `reference`, and then one for
                each coordinate, in their order.
            facts: root attributes that are known at the end only.
            parameters: the final θ (n,).
            phases, traffic: of the last record, as for `append`, if it has none yet.
        """
        last = {
            "phases": self._fill_by_rank("phases", self._phases, phases),
            "traffic": self._fill_by_rank("traffic", self._traffic, traffic),
        }
        self._file.close()
        ending = {"stop_reason": stop_reason, **(facts or {})}
        known = {name: row for name, row in last.items() if row is not None}
        replace_by_finished(self.path, ending, solution, parameters, known)
        self.close()

    def sync(self) -> None:
        """Waits until all records are on the disk."""
        self._file.flush()
        files.sync(self.path)

    def close(self) -> None:
        """Closes the file of a run that has not come to an end. It stays readable."""
        self._file.close()
        self._claim.release()

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _append_known(rows: Rows, given: Sequence[np.ndarray | None]) -> None:
    """Appends rows, of which those that are None are not known."""
    for is_known, group in groupby(given, lambda each: each is not None):
        each = [*group]
        rows.append(np.stack(each)) if is_known else rows.skip(len(each))  # type: ignore[arg-type]


def _make_attributes(
    job: str, environment: Mapping[str, Scalar], past: Run | None
) -> Mapping[str, Scalar]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **environment,
        "format": f"{FORMAT_NAME}/{FORMAT_VERSION}",
        "hpctrain_version": find_version(),
        "job": job,
        "created": past.attributes["created"] if past else now,
        "stop_reason": RUNNING,
    }


def _make_dtype(kind: ColumnType) -> np.dtype:
    """Returns the HDF5 type of a column. That of an enumeration shows the names to any reader."""
    return np.dtype(kind) if isinstance(kind, str) else h5py.enum_dtype(kind, basetype="i2")


def _check_fits(past: Run, columns: Mapping[str, ColumnType], phases: Sequence[str]) -> None:
    if past.history.keys() != columns.keys():
        raise RunFileError(
            f"{past.path}: cannot be resumed, its columns are {sorted(past.history)}, "
            f"this job's {sorted(columns)}"
        )
    if past.phase_names != tuple(phases):
        raise RunFileError(
            f"{past.path}: cannot be resumed, its phases are {list(past.phase_names)}, "
            f"this job's {list(phases)}"
        )
