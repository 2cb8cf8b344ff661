"""Writes and reads a table in an HDF5 file: a data set for each column, and facts as attributes.

A finished table replaces an older file of the same name in one step.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import InputError
from hpctrain.store import attributes, files, writable
from hpctrain.store.attributes import Scalar
from hpctrain.store.guarded import open_to_read
from hpctrain.store.space import Sink

FORMAT = "hpctrain-table/1"

Columns = Mapping[str, Sequence[float] | Sequence[str]]


def write_table(path: Path, columns: Columns, facts: Mapping[str, Scalar]) -> None:
    """Writes columns of numbers or of texts, all of one length, and facts about the whole table.

    Raises:
        InputError: the file cannot be written.
    """
    with writable.explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, columns, facts)


def _replace(path: Path, columns: Columns, facts: Mapping[str, Scalar]) -> None:
    """Puts a whole table in the place of what is there."""
    temporary = files.make_temporary_name(path)
    try:
        with Sink(temporary) as sink, h5py.File(sink, "w", libver="latest") as file:
            for name, values in columns.items():
                array = np.asarray(values)
                file[name] = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
            attributes.write(file, {**facts, "format": FORMAT})
        sink.check()
        files.sync(temporary)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    files.rename(temporary, path)


def read_table(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Scalar]]:
    """Reads the columns and the facts of a table; texts have numpy's type "U".

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    try:
        with open_to_read(path) as file:
            facts = attributes.read(file)
            columns = {name: each[()] for name, each in file.items()}
    except OSError as error:
        raise InputError(f"{path}: not a table that can be read: {error}") from error
    if facts.pop("format", None) != FORMAT:
        raise InputError(f"{path}: not a table of hpctrain ({FORMAT})")
    texts = {k: np.char.decode(v, "utf-8") for k, v in columns.items() if v.dtype.kind == "S"}
    return {**columns, **texts}, facts
