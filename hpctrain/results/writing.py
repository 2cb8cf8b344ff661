"""Writes what ranks evaluate, a block of rows after the other.

Ranks take blocks in turn, and rank 0 writes them in their order. A rank has one block in memory,
rank 0 one of each rank.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.data.tables import Writer
from hpctrain.store.files import make_temporary_name

Columns = Mapping[str, np.ndarray]
Begin = Callable[[Path, Mapping[str, np.dtype]], Writer]


def check_apart(output: Path, *inputs: str) -> None:
    """Refuses to write over what is read."""
    for each in inputs:
        if output.exists() and Path(each).exists() and output.samefile(each):
            raise InputError(f"-o {output} is not allowed: it is read, too")


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
        self._folder = make_temporary_name(output)
        self._writer: Writer | None = None
        self._is_made = False

    def append(self, blocks: Sequence[Columns]) -> None:
        """Adds blocks of rows."""
        try:
            for columns in blocks:
                if self._writer is None:
                    types = {name: values.dtype for name, values in columns.items()}
                    shutil.rmtree(self._folder, ignore_errors=True)  # of one that was killed
                    self._folder.mkdir()
                    self._is_made = True
                    self._writer = self._begin(self._folder / self._output.name, types)
                self._writer.append(columns)
        except OSError as error:
            raise self._explain(error) from error

    def finish(self) -> None:
        """Completes the output."""
        try:
            if self._writer is not None:
                self._writer.close()
            for path in self._folder.iterdir():
                path.replace(self._output.parent / path.name)
        except OSError as error:
            raise self._explain(error) from error

    def clear(self) -> None:
        """Removes what is left of it, on the rank that wrote."""
        if self._is_made:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _explain(self, error: OSError) -> InputError:
        return InputError(f"{self._output} cannot be written: {error.strerror or error}")
