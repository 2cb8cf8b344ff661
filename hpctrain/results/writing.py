"""Writes what ranks evaluate, a block of rows after the other.

Ranks take blocks in turn, and rank 0 writes them in their order. A rank has one block in memory,
rank 0 one of each rank.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import Writer
from hpctrain.store import writable

Columns = Mapping[str, np.ndarray]
Begin = Callable[[Path, Mapping[str, np.dtype]], Writer]


def check_apart(output: Path, *inputs: str) -> None:
    """Refuses to write over what is read, also by the file that lies beside an XDMF file."""
    for path in (output, output.with_name(f"{output.name}.h5")):
        for each in inputs:
            if path.exists() and Path(each).exists() and path.samefile(each):
                raise InputError(f"-o {output} is not allowed: {path} is read, too")


def write_blocks(
    ranks: Communicator,
    count: int,
    block: int,
    evaluate: Callable[[int, int], Columns],
    output: Path,
    begin: Begin,
) -> None:
    """Evaluates rows in blocks, and writes them; collective.

    Args:
        count: of all rows.
        block: rows that are evaluated at a time.
        evaluate: the columns of rows first … last - 1.
        output: takes its name when it is complete.
        begin: makes what writes, of a name and the types of the columns.

    Raises:
        InputError: a block cannot be evaluated or written; there is no output then.
    """
    ranks.run_on_root(partial(writable.check_file, output))
    writing = _Writing(output, begin)
    try:
        for start in range(0, max(count, 1), block * ranks.size):
            first = min(start + block * ranks.rank, count)
            last = min(first + block, count)
            own = ranks.run_on_all(partial(evaluate, first, last))
            ranks.run_on_root(partial(writing.append, ranks.gather(own) or []))
        ranks.run_on_root(writing.finish)
    finally:
        writing.clear()


class _Writing:
    """Writes an output in a folder beside it, from which it is moved when it is complete.

    Args:
        output: its name; files beside it that it needs are moved with it.
        begin: makes what writes, of a name and the types of the columns.
    """

    def __init__(self, output: Path, begin: Begin) -> None:
        self._output, self._begin = output, begin
        self._folder: Path | None = None
        self._writer: Writer | None = None

    def append(self, blocks: Sequence[Columns]) -> None:
        """Adds blocks of rows."""
        with writable.explain(self._output):
            for columns in blocks:
                if self._writer is None:
                    types = {name: values.dtype for name, values in columns.items()}
                    beside, name = self._output.parent, self._output.name
                    beside.mkdir(parents=True, exist_ok=True)
                    self._folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=beside))
                    self._writer = self._begin(self._folder / name, types)
                self._writer.append(columns)

    def finish(self) -> None:
        """Completes the output."""
        if self._writer is None or self._folder is None:
            return
        with writable.explain(self._output):
            self._writer.close()
            for path in self._folder.iterdir():
                path.replace(self._output.parent / path.name)

    def clear(self) -> None:
        """Removes what is left of it, on the rank that wrote."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
