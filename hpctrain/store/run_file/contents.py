"""What a run file holds, as it was read, and the marks that tell it from other files."""

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
# Before the names of unknowns in `Run.solution`: their standard errors, and half of the widths of
# their intervals; before those of measures in root attributes.
STANDARD_ERROR, INTERVAL, FINAL = "standard_error_", "interval_", "final."

# The NumPy type of a column, such as "f8" or "i8", or the numbers of an enumeration by their names.
ColumnType = str | Mapping[str, int]


class RunFileError(InputError):
    """A run file cannot be written or read. The message names the file and what can be done."""


@dataclass(frozen=True)
class Iterates:
    """Snapshots of the parameters: `theta[i]` (n,) is θ after the iteration `iteration[i]`."""

    iteration: np.ndarray
    theta: np.ndarray


@dataclass(frozen=True)
class Run:
    """The content of a run file.

    Args:
        path: of the file.
        job: the resolved job file (TOML).
        attributes: the environment and the other root attributes.
        history: its columns by name, each (records,).
        phase_names: the names of the phases.
        phases: (records, ranks, phases, 2), wall and CPU seconds since the last record.
        traffic: (records, ranks, 2), messages and bytes since the last record; NaN where the file
            has none.
        iterates: snapshots of θ, if there are any.
        parameters: the final θ (n,), once the run has ended.
        stage_reasons: why each stage ended, of those that have begun.
        solution: the arrays `prediction` and, where it is known, `reference`, and then the
            coordinates in their order.
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
        """Why the run ended. It is "running" while it goes on, and stays so if it was killed."""
        return str(self.attributes["stop_reason"])

    @property
    def final(self) -> dict[str, float]:
        """What the monitor measured of the final θ, by its columns; empty before the end."""
        return {
            name.removeprefix(FINAL): float(value)
            for name, value in self.attributes.items()
            if name.startswith(FINAL)
        }

    @property
    def unknowns(self) -> list[str]:
        """The names of the unknowns of which the solution says how well they are known."""
        names = self.solution or {}
        return [n.removeprefix(STANDARD_ERROR) for n in names if n.startswith(STANDARD_ERROR)]

    @property
    def has_ended(self) -> bool:
        """Whether the file says why the run ended; it does not of a run that was killed."""
        return self.stop_reason != RUNNING

    @property
    def own_code(self) -> str:
        """The digests of the Python files that the job names, as `job.own_code` writes them."""
        return str(self.attributes.get("own_code", ""))

    @property
    def nbytes(self) -> int:
        """The size of all records in memory, in bytes."""
        iterates = self.iterates.theta.nbytes if self.iterates else 0
        measured = self.phases.nbytes + self.traffic.nbytes
        return measured + iterates + sum(map(len, self.history.values())) * 8

    def keep_until(self, iteration: int) -> "Run":
        """Returns the records up to an iteration, which a run resumed from there keeps."""
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
    """Computes the CRC-32 (records,) of the values of each record, in the order of the names."""
    records = len(next(iter(columns.values())))
    if records == 0:
        return np.empty(0, np.int64)
    parts = [
        np.frombuffer(columns[name].tobytes(), np.uint8).reshape(records, -1)
        for name in sorted(columns)
    ]
    return np.array([zlib.crc32(record) for record in np.concatenate(parts, axis=1)], np.int64)


def compute_checksum(file: h5py.File) -> int:
    """Computes the CRC-32 of all data of a finished run; HDF5 itself checks the rest."""
    datasets: list[h5py.Dataset] = []
    file.visititems(lambda _, each: datasets.append(each) if hasattr(each, "dtype") else None)
    crc = 0
    for dataset in sorted(datasets, key=lambda each: each.name):
        crc = zlib.crc32(np.ascontiguousarray(dataset[()]).data, crc)
    return crc
