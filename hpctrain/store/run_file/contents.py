"""What a run file holds, and how it is marked as one."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import InputError
from hpctrain.store.attributes import Scalar

FORMAT_NAME = "hpctrain-run"
FORMAT_VERSION = 1
NO_ITERATION = -1
# The stop reason while a run goes on, and for ever if it was killed.
RUNNING = "running"
# Before the names of the terms of a loss, in columns of the history: their losses, their weights.
TERM_LOSS, TERM_WEIGHT = "loss.", "weight."

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
        parameters: the final θ (n,) of a run that has ended.
        stage_reasons: why each stage of it ended, of those that began.
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
    parameters: np.ndarray | None = None
    stage_reasons: tuple[str, ...] = ()

    @property
    def stop_reason(self) -> str:
        """Why the run ended; "running" while it goes on, and for ever if it was killed."""
        return str(self.attributes["stop_reason"])

    @property
    def own_code(self) -> str:
        """Digests of the Python files that the job names, as its writer gave them."""
        return str(self.attributes.get("own_code", ""))

    @property
    def nbytes(self) -> int:
        """Of its records."""
        iterates = self.iterates.theta.nbytes if self.iterates else 0
        measured = self.phases.nbytes + self.traffic.nbytes
        return measured + iterates + sum(map(len, self.history.values())) * 8

    def keep_until(self, iteration: int) -> "Run":
        """The records up to and including an iteration: what a run resumed from there keeps."""
        kept = self.history["iteration"] <= iteration
        iterates = self.iterates
        if iterates is not None:
            early = iterates.iteration <= iteration
            iterates = Iterates(iterates.iteration[early], iterates.theta[early])
        history = {name: values[kept] for name, values in self.history.items()}
        phases, traffic = self.phases[kept], self.traffic[kept]
        found = replace(self, history=history, phases=phases, traffic=traffic)
        return replace(found, iterates=iterates, solution=None, parameters=None, stage_reasons=())


def compute_row_checks(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The `compute_check` (records,) of each record of columns (records, …)."""
    records = len(next(iter(columns.values())))
    if records == 0:
        return np.empty(0, np.int64)
    parts = [
        np.frombuffer(columns[name].tobytes(), np.uint8).reshape(records, -1)
        for name in sorted(columns)
    ]
    return np.array([zlib.crc32(record) for record in np.concatenate(parts, axis=1)], np.int64)


def compute_check(values: Mapping[str, np.ndarray]) -> int:
    """CRC-32 of one record's values, in the order of their names."""
    return zlib.crc32(b"".join(values[name].tobytes() for name in sorted(values)))


def compute_checksum(file: h5py.File) -> int:
    """CRC-32 of all data of a finished run; HDF5 itself checks the rest of the file."""
    datasets: list[h5py.Dataset] = []
    file.visititems(lambda _, each: datasets.append(each) if hasattr(each, "dtype") else None)
    crc = 0
    for dataset in sorted(datasets, key=lambda each: each.name):
        crc = zlib.crc32(np.ascontiguousarray(dataset[()]).data, crc)
    return crc
