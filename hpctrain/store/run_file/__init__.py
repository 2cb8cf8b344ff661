"""The run file: everything a finished, running or killed run has to show, in one HDF5 file.

Root attributes: `format`, `hpctrain_version`, `created`, `job` (the resolved TOML), `stop_reason`,
and the environment. `/history/<column>`: one 1-D dataset a column. `/phases` [record, rank, phase,
(wall, cpu)]: seconds spent within each record; `/traffic` [record, rank, (messages, bytes)] beside
it. `/iterates` and `/solution` where there are any.

`/checks` and `/iterates/checks` hold a CRC-32 of each record of the history and of each snapshot:
where one does not match, it and those after it do not count.

A run is written in HDF5's single-writer-multiple-reader mode, so that it can be read while it goes
on and after it was killed. `iteration` is written last in each record: a record counts once its
iteration is there.
"""

from hpctrain.store.run_file.contents import (
    TERM_LOSS,
    TERM_WEIGHT,
    ColumnType,
    Iterates,
    Run,
    RunFileError,
)
from hpctrain.store.run_file.reader import holds_no_record, read_run
from hpctrain.store.run_file.writer import RunWriter

__all__ = [
    "TERM_LOSS",
    "TERM_WEIGHT",
    "ColumnType",
    "Iterates",
    "Run",
    "RunFileError",
    "RunWriter",
    "holds_no_record",
    "read_run",
]
