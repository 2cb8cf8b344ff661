"""The run file: all that a finished, running or killed run has to show, in one HDF5 file.

- Root attributes: `format`, `hpctrain_version`, `created`, `job` (the resolved job file, TOML),
  `stop_reason`, and the environment.
- `/history/<column>`: the history, a data set for each column, a number for each record.
- `/phases` [record, rank, phase, (wall, cpu)]: the seconds spent in each phase since the last
  record. `/traffic` [record, rank, (messages, bytes)]: what each rank sent since then.
- `/iterates`: snapshots of θ, and `/solution`: the trained network's values, where there are any.
- `/checks` and `/iterates/checks`: a CRC-32 of each record and of each snapshot. From the first one
  that does not match, records and snapshots are ignored.

A run writes its file in HDF5's single-writer-multiple-reader mode, so that others can read it while
it grows, and after the run was killed. `iteration` is written last in each record, and a record is
read only if its iteration is there.
"""

from hpctrain.store.run_file.contents import (
    FINAL,
    INTERVAL,
    STANDARD_ERROR,
    TERM_LOSS,
    TERM_WEIGHT,
    ColumnType,
    Iterates,
    Run,
    RunFileError,
)
from hpctrain.store.run_file.reader import holds_no_record, read_run
from hpctrain.store.run_file.writer import Entry, RunWriter

__all__ = [
    "FINAL",
    "INTERVAL",
    "STANDARD_ERROR",
    "TERM_LOSS",
    "TERM_WEIGHT",
    "ColumnType",
    "Entry",
    "Iterates",
    "Run",
    "RunFileError",
    "RunWriter",
    "holds_no_record",
    "read_run",
]
