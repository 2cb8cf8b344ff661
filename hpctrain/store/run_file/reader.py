"""Reads a run file, also one that is being written or that was cut off."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from hpctrain.store import attributes, growing
from hpctrain.store.guarded import open_to_read
from hpctrain.store.run_file.contents import (
    FORMAT_NAME,
    FORMAT_VERSION,
    NO_ITERATION,
    Iterates,
    Run,
    RunFileError,
    compute_checksum,
    compute_row_checks,
)

# What reading a damaged file raises.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
# Seconds between attempts to read a growing file: its writer may be within a record.
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)

T = TypeVar("T")


def read_run(path: Path | str) -> Run:
    """Reads a run file, also while its run goes on, and after it was killed.

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
    """Whether this is the run file of a run that ended before it wrote a record."""
    try:
        return path.is_file() and _read(path, lambda file: len(file["history/iteration"])) == 0
    except (RunFileError, *DAMAGE):
        return False


def _read(path: Path, load: Callable[[h5py.File], T]) -> T:
    """Opens a file, without the mark of one that is being written, and reads it by `load`."""
    if not h5py.is_hdf5(path):
        raise RunFileError(f"{path}: not an HDF5 file; give one that `hpctrain run -o` wrote")
    if growing.is_marked(path):
        with growing.Unmarked(path) as bytes_, open_to_read(path, bytes_) as file:
            return _load_checked(path, file, load)
    with open_to_read(path) as file:
        return _load_checked(path, file, load)


def _load_checked(path: Path, file: h5py.File, load: Callable[[h5py.File], T]) -> T:
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
    measured = [file[name] for name in ("checks", "phases", "traffic") if name in file]
    records = len(_read_iterations(path, file["history"], measured))
    environment = attributes.read(file)
    if environment.pop("crc32", None) not in (None, compute_checksum(file)):
        raise ValueError("its data do not match their checksum")
    history = {name: column[:records] for name, column in file["history"].items()}
    records = _count_whole(path, file, history)
    history = {name: column[:records] for name, column in history.items()}
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
        iterates=_load_iterates(path, file),
        solution=_load_solution(file),
        parameters=file["parameters"][:] if "parameters" in file else None,
        stage_reasons=tuple(attributes.read_texts(file, "stage_reasons"))
        if "stage_reasons" in file.attrs
        else (),
    )


def _read_iterations(path: Path, group: h5py.Group, others: Sequence[h5py.Dataset]) -> np.ndarray:
    """The iterations of a group's rows, none of which was cut off, nor of other data sets' rows."""
    iteration = group["iteration"]
    _check_whole(path, iteration, len(iteration))
    numbers = iteration[:]
    found = numbers[numbers != NO_ITERATION]
    for dataset in (*group.values(), *others):
        _check_whole(path, dataset, len(found))
    return found


def _check_whole(path: Path, dataset: h5py.Dataset, records: int) -> None:
    """Raises an error for a data set that was cut off, where `growing` would read its filler."""
    size = path.stat().st_size
    for index in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(index)
        if chunk.chunk_offset[0] < records and chunk.byte_offset + chunk.size > size:
            raise ValueError(f"cut off at {size} bytes, within {dataset.name}")


def _count_whole(path: Path, group: h5py.Group, columns: Mapping[str, np.ndarray]) -> int:
    """Counts the records before the first one that does not match its check.

    All records count in a file without checks.
    """
    records = len(columns["iteration"])
    if "checks" not in group:
        return records
    different = np.flatnonzero(group["checks"][:records] != compute_row_checks(columns))
    if not len(different):
        return records
    place = f"{group.name.rstrip('/')}/iteration"
    warnings.warn(
        f"{path}: damaged, {place} number {different[0] + 1} and those after it are left out:"
        f" {records - different[0]} of {records}",
        stacklevel=2,
    )
    return int(different[0])


def _load_iterates(path: Path, file: h5py.File) -> Iterates | None:
    if "iterates" not in file:
        return None
    group = file["iterates"]
    iteration = _read_iterations(path, group, ())
    theta = group["theta"][: len(iteration)]
    whole = _count_whole(path, group, {"theta": theta, "iteration": iteration})
    return Iterates(iteration[:whole], theta[:whole])


def _load_solution(file: h5py.File) -> dict[str, np.ndarray] | None:
    if "solution" not in file:
        return None
    group = file["solution"]
    return {name: group[name][()] for name in attributes.read_texts(group, "order")}
