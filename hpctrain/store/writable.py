"""Whether an output can be written: tried before any work, and said in one line where it cannot."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpctrain.errors import InputError


@contextmanager
def explain(asked: object) -> Iterator[None]:
    """Makes one line of what the system says where an output cannot be written.

    Args:
        asked: how the line names the output, such as its path.

    Raises:
        InputError: this line.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{asked} cannot be written: {error.strerror or error}") from error


def check_file(path: Path) -> None:
    """Tries whether a file can be made, or written where there is one; leaves all as it is.

    Raises:
        InputError: it cannot.
    """
    with explain(path):
        if path.is_file() or path.is_dir():  # a pipe would wait for its reader
            path.open("ab").close()
        else:
            _try_to_write_below(path.parent)


def check_folder(folder: Path, asked: str) -> None:
    """Tries whether a folder can be made, or written into where there is one; leaves all as it is.

    Args:
        asked: how messages name it, such as "--runs runs".

    Raises:
        InputError: it cannot.
    """
    with explain(asked):
        _try_to_write_below(folder)


def _try_to_write_below(folder: Path) -> None:
    """Writes into the folder, or into the one in which it would be made."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    tempfile.TemporaryFile(dir=there).close()
