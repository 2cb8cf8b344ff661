"""The run file: everything a finished, running or killed run has to show, in one HDF5 file.

Root attributes: `format`, `hpctrain_version`, `created`, `job` (the resolved TOML), `stop_reason`,
and the environment. `/history/<column>`: one 1-D dataset a column. `/phases` [record, rank, phase,
(wall, cpu)]: seconds spent within each record; `/traffic` [record, rank, (messages, bytes)] beside
it. `/iterates` and `/solution` where there are any.

A run is written in HDF5's single-writer-multiple-reader mode, so that it can be read while it goes
on and after it was killed. `iteration` is written last in each record: a record counts once its
iteration is there.
"""

import operator
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import h5py
import numpy as np
from h5py import h5s

from hpctrain.errors import InputError
from hpctrain.store import attributes, files, growing
from hpctrain.store.attributes import Scalar
from hpctrain.store.claim import Claim
from hpctrain.store.space import Reserve, Sink

FORMAT_NAME = "hpctrain-run"
FORMAT_VERSION = 1
NO_ITERATION = -1
CHUNK_BYTES = 8192
# Disk space that HDF5 may take for an index when a record is added, above that of its chunks.
RESERVED_BYTES = 2**16
# What reading a damaged file raises.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
# Seconds between attempts to read a growing file: its writer may be within a record.
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
RUNNING = "running"

T = TypeVar("T")
# The NumPy type of a column, such as "f8" or "i8", or the numbers of an enumeration by their names.
ColumnType = str | Mapping[str, int]


class RunFileError(InputError):
    """A run file that cannot be written or read; the message names the file and the remedy."""


@dataclass(frozen=True)
class Iterates:
    """Snapshots of the parameters: `theta[i]` (n,) was reached at `iteration[i]`."""

    iteration: np.ndarray
    theta: np.ndarray


@dataclass(frozen=True)
class Run:
    """What a run file holds.

    Args:
        attributes: the environment and the other root attributes, without the job.
        history: column → (records,).
        phases: (records, ranks, phases, 2), wall and CPU seconds within each record.
        traffic: (records, ranks, 2), messages and bytes within each record; NaN in files of before.
        solution: `prediction`, `reference` (if any), then the coordinates in the field's order.
    """

    path: Path
    attributes: Mapping[str, Scalar]
    job: str
    history: Mapping[str, np.ndarray]
    phases: np.ndarray
    phase_names: tuple[str, ...]
    traffic: np.ndarray
    iterates: Iterates | None
    solution: Mapping[str, np.ndarray] | None

    @property
    def stop_reason(self) -> str:
        """Why the run ended; "running" while it goes on, and for ever if it was killed."""
        return str(self.attributes["stop_reason"])

    @property
    def nbytes(self) -> int:
        """Of its records."""
        iterates = self.iterates.theta.nbytes if self.iterates else 0
        measured = self.phases.nbytes + self.traffic.nbytes
        return measured + iterates + sum(map(len, self.history.values())) * 8

    def until(self, iteration: int) -> "Run":
        """The records up to and including an iteration: what a run resumed from there keeps."""
        kept = self.history["iteration"] <= iteration
        iterates = self.iterates
        if iterates is not None:
            early = iterates.iteration <= iteration
            iterates = Iterates(iterates.iteration[early], iterates.theta[early])
        history = {name: values[kept] for name, values in self.history.items()}
        phases, traffic = self.phases[kept], self.traffic[kept]
        found = replace(self, history=history, phases=phases, traffic=traffic)
        return replace(found, iterates=iterates, solution=None)


class _Rows:
    """A dataset that grows along its first axis. Low-level calls: a third of the time of h5py's."""

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: np.dtype,
        row_shape: tuple[int, ...] = (),
        past: np.ndarray | None = None,
    ) -> None:
        self.shape, self.dtype = row_shape, dtype
        self._length = 0 if past is None else len(past)
        row_bytes = dtype.itemsize * int(np.prod(row_shape))
        dataset = group.create_dataset(
            name,
            shape=(self._length, *row_shape),
            maxshape=(None, *row_shape),
            chunks=(max(1, CHUNK_BYTES // row_bytes), *row_shape),
            dtype=dtype,
            fillvalue=np.nan if dtype.kind == "f" else NO_ITERATION,
        )
        if past is not None:
            dataset[tuple(slice(extent) for extent in past.shape)] = past
        self._id = dataset.id
        self._memory = h5s.create_simple((1, *row_shape))

    def append(self, row: np.ndarray) -> None:
        """Add one row and hand it to the operating system."""
        start, count = (self._length, *(0 for _ in self.shape)), (1, *self.shape)
        self._id.set_extent((self._length + 1, *self.shape))
        space = self._id.get_space()
        space.select_hyperslab(start, count)
        self._id.write(self._memory, space, np.ascontiguousarray(row))
        self._id.flush()
        self._length += 1


class RunWriter:
    """Writes a run file, on one rank. Each record is in the file when `append` returns.

    Args:
        path: the new file; nothing may stand there, unless the run is resumed.
        job: the resolved job file (TOML).
        environment: name → scalar, kept as root attributes (ranks, threads, host, versions, …).
        columns: history column → its type; `iteration` is one of them.
        phases: names of the timed phases.
        ranks: number of ranks whose phases are recorded.
        iterate_size: length n of the snapshots of θ, where they are asked for.
        past: on resuming, what the run at `path` keeps: `read_run(path).until(iteration)`; the
            new file, these records in it, takes the old one's place.
        claim: the right to write it, which the writer gives back when it closes the file.

    Raises:
        RunFileError: a run is there already, or does not fit the one that is resumed.
        InUseError: another process writes it.
        OSError: it cannot be made.
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
            attributes.write(self._file, _attributes(job, environment, past))
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
        kept = past.history if past else {}
        self._columns = {
            name: _Rows(history, name, _dtype(kind), past=kept.get(name))
            for name, kind in columns.items()
        }
        self._ranks = ranks
        timed = past.phases if past else np.empty((0, ranks, len(phases), 2))
        shape = (max(ranks, timed.shape[1]), len(phases), 2)
        self._phases = _Rows(self._file, "phases", np.dtype("f8"), shape, timed)
        attributes.write(self._file["phases"], {"names": phases, "clocks": ["wall", "cpu"]})
        sent = past.traffic if past else np.empty((0, ranks, 2))
        self._traffic = _Rows(self._file, "traffic", np.dtype("f8"), (shape[0], 2), sent)
        attributes.write(self._file["traffic"], {"names": ["messages", "bytes"]})
        self._iterates = None
        if iterate_size is not None:
            group = self._file.create_group("iterates")
            none = Iterates(np.empty(0, np.int64), np.empty((0, iterate_size)))
            old = (past and past.iterates) or none
            self._iterates = (
                _Rows(group, "theta", np.dtype("f8"), (iterate_size,), old.theta),
                _Rows(group, "iteration", np.dtype("i8"), (), old.iteration),
            )

    def append(
        self,
        row: Mapping[str, float | int],
        phases: np.ndarray | None = None,
        traffic: np.ndarray | None = None,
    ) -> None:
        """Add one record.

        Args:
            row: a value for every column; NaN where a floating-point one has none.
            phases: (ranks, phases, 2), wall and CPU seconds spent since the last record.
            traffic: (ranks, 2), messages and bytes since the last record.

        Raises:
            RunFileError: a column is unknown or missing, a value or an array does not fit.
            OSError: the disk is full; all records before are in the file.
        """
        if row.keys() != self._columns.keys():
            unknown = sorted(row.keys() - self._columns.keys())
            missing = sorted(self._columns.keys() - row.keys())
            raise RunFileError(f"{self.path}: columns unknown {unknown}, missing {missing}")
        values = {name: self._value(name, row[name]) for name in row}
        self._reserve.keep(self._file.id.get_filesize() + self._ahead)
        self._phases.append(self._by_rank("phases", self._phases, phases))
        self._traffic.append(self._by_rank("traffic", self._traffic, traffic))
        for name, column in self._columns.items():
            if name != "iteration":
                column.append(values[name])
        self._columns["iteration"].append(values["iteration"])

    def _value(self, name: str, value: float | int) -> np.ndarray:
        dtype = self._columns[name].dtype
        try:
            return np.asarray(operator.index(value) if dtype.kind in "iu" else value, dtype)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            message = f"{self.path}: column {name} holds {dtype}, given was {value!r}"
            raise RunFileError(message) from error

    def _by_rank(self, name: str, rows: _Rows, given: np.ndarray | None) -> np.ndarray:
        row = np.full(rows.shape, np.nan)
        if given is None:
            return row
        expected = (self._ranks, *rows.shape[1:])
        if given.shape != expected:
            raise RunFileError(f"{self.path}: {name} of shape {given.shape}, not {expected}")
        row[: self._ranks] = given
        return row

    def append_iterate(self, iteration: int, theta: np.ndarray) -> None:
        """Add a snapshot of the parameters θ (n,); needs `iterate_size`."""
        if self._iterates is None or theta.shape != self._iterates[0].shape:
            expected = self._iterates and self._iterates[0].shape
            raise RunFileError(f"{self.path}: iterate of shape {theta.shape}, not {expected}")
        thetas, iterations = self._iterates
        thetas.append(theta.astype(np.float64, copy=False))
        iterations.append(np.asarray(iteration, np.int64))

    def finish(
        self,
        stop_reason: str,
        solution: Mapping[str, np.ndarray] | None = None,
        facts: Mapping[str, Scalar] | None = None,
    ) -> None:
        """End the run: its complete file, with the solution, takes the place of the growing one.

        Args:
            stop_reason: why it ended.
            facts: what is known at the end only, as root attributes.
            solution: `prediction`, `reference` (if any) and, in the order of the field's axes, one
                array for each coordinate.
        """
        self._file.close()
        temporary = files.temporary_name(self.path.with_name(f"{self.path.name}.end"))
        try:
            ending = {"stop_reason": stop_reason, **(facts or {})}
            self._write_finished(temporary, ending, solution)
            files.sync(temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        files.rename(temporary, self.path)
        self.close()

    def _write_finished(
        self,
        temporary: Path,
        ending: Mapping[str, Scalar],
        solution: Mapping[str, np.ndarray] | None,
    ) -> None:
        with (
            h5py.File(self.path, "r") as grown,
            Sink(temporary) as sink,
            h5py.File(sink, "w", libver="latest") as new,
        ):
            for name in grown:
                grown.copy(name, new)
            attributes.write(new, {**attributes.read(grown), **ending})
            if solution is not None:
                _write_solution(new, solution)
            attributes.write(new, {"crc32": _checksum(new)})
        sink.check()

    def sync(self) -> None:
        """Wait until all records are on the disk."""
        self._file.flush()
        files.sync(self.path)

    def close(self) -> None:
        """Close the file of a run that did not come to an end; it stays readable."""
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


def _attributes(
    job: str, environment: Mapping[str, Scalar], past: Run | None
) -> Mapping[str, Scalar]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **environment,
        "format": f"{FORMAT_NAME}/{FORMAT_VERSION}",
        "hpctrain_version": _version(),
        "job": job,
        "created": past.attributes["created"] if past else now,
        "stop_reason": RUNNING,
    }


def _version() -> str:
    try:
        return version("hpctrain")
    except PackageNotFoundError:
        return "not installed"


def _dtype(kind: ColumnType) -> np.dtype:
    """An enumeration is HDF5's own: any reader of the file sees the names."""
    return np.dtype(kind) if isinstance(kind, str) else h5py.enum_dtype(kind, basetype="i1")


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


def _checksum(file: h5py.File) -> int:
    """CRC-32 of all data of a finished run; HDF5 itself checks the rest of the file."""
    datasets: list[h5py.Dataset] = []
    file.visititems(lambda _, each: datasets.append(each) if hasattr(each, "dtype") else None)
    crc = 0
    for dataset in sorted(datasets, key=lambda each: each.name):
        crc = zlib.crc32(np.ascontiguousarray(dataset[()]).data, crc)
    return crc


def _write_solution(file: h5py.File, solution: Mapping[str, np.ndarray]) -> None:
    group = file.create_group("solution")
    for name, values in solution.items():
        group[name] = values
    attributes.write(group, {"order": list(solution)})


def read_run(path: Path | str) -> Run:
    """Read a run file, also while its run goes on or after it was killed.

    Raises:
        RunFileError: the file is missing, damaged, not a run file, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise RunFileError(f"{path}: no such file; give one that `hpctrain run -o` wrote")
    for pause in PAUSES:
        try:
            return _read(path, partial(_load, path))
        except DAMAGE:
            if not growing.is_marked(path):
                break
        time.sleep(pause)
    try:
        return _read(path, partial(_load, path))
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise RunFileError(f"{path}: damaged or not readable: {reason}") from error


def holds_no_record(path: Path) -> bool:
    """Whether this is the run file of a run that ended before its first record."""
    try:
        return path.is_file() and _read(path, lambda file: len(file["history/iteration"])) == 0
    except (RunFileError, *DAMAGE):
        return False


def _read(path: Path, load: Callable[[h5py.File], T]) -> T:
    if not h5py.is_hdf5(path):
        raise RunFileError(f"{path}: not an HDF5 file; give one that `hpctrain run -o` wrote")
    if growing.is_marked(path):
        with growing.Unmarked(path) as bytes_, h5py.File(bytes_, "r", libver="latest") as file:
            return _checked(path, file, load)
    with h5py.File(path, "r", libver="latest") as file:
        return _checked(path, file, load)


def _checked(path: Path, file: h5py.File, load: Callable[[h5py.File], T]) -> T:
    _check_format(path, attributes.read(file).get("format"))
    return load(file)


def _check_format(path: Path, given: object) -> None:
    name, _, number = str(given).partition("/")
    if name != FORMAT_NAME or not number.isdecimal():
        raise RunFileError(
            f"{path}: not a run of hpctrain (attribute format is {given!r}); "
            "give a file that `hpctrain run -o` wrote"
        )
    if int(number) > FORMAT_VERSION:
        raise RunFileError(
            f"{path}: format {given} is newer than this hpctrain reads "
            f"(up to {FORMAT_NAME}/{FORMAT_VERSION}); update hpctrain"
        )


def _load(path: Path, file: h5py.File) -> Run:
    iteration = file["history/iteration"][:]
    records = int(np.count_nonzero(iteration != NO_ITERATION))
    measured = [file[name] for name in ("phases", "traffic") if name in file]
    for dataset in (*file["history"].values(), *measured):
        _check_whole(path, dataset, records)
    history = {name: column[:records] for name, column in file["history"].items()}
    environment = attributes.read(file)
    if environment.pop("crc32", None) not in (None, _checksum(file)):
        raise ValueError("its data do not match their checksum")
    phases = file["phases"][:records]
    unknown = np.full((*phases.shape[:2], 2), np.nan)
    return Run(
        path=path,
        job=str(environment.pop("job")),
        attributes=environment,
        history=history,
        phases=phases,
        traffic=file["traffic"][:records] if "traffic" in file else unknown,
        phase_names=tuple(attributes.read_texts(file["phases"], "names")),
        iterates=_load_iterates(file),
        solution=_load_solution(file),
    )


def _check_whole(path: Path, dataset: h5py.Dataset, records: int) -> None:
    """HDF5 reads zeros past the end of a file that was cut off while it was being written."""
    size = path.stat().st_size
    for index in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(index)
        if chunk.chunk_offset[0] < records and chunk.byte_offset + chunk.size > size:
            raise ValueError(f"cut off at {size} bytes, within {dataset.name}")


def _load_iterates(file: h5py.File) -> Iterates | None:
    if "iterates" not in file:
        return None
    iteration = file["iterates/iteration"][:]
    iteration = iteration[iteration != NO_ITERATION]
    return Iterates(iteration, file["iterates/theta"][: len(iteration)])


def _load_solution(file: h5py.File) -> dict[str, np.ndarray] | None:
    if "solution" not in file:
        return None
    group = file["solution"]
    return {name: group[name][()] for name in attributes.read_texts(group, "order")}
