"""Makes sure that one process at a time writes a run file, by a lock that ends with the process.

The lock is on a byte far beyond the end of the file, and belongs to the open file (Linux: `fcntl`
with F_OFD_SETLK). Nothing of it is stored, and readers do not notice it. It is taken as an
exclusive one and then made a shared one, because over NFS it could meet the shared locks of HDF5's
readers. On a file system without locks nobody is kept out.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from hpctrain.errors import InputError
from hpctrain.store import files

LOCKED_BYTE = 2**62
HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)

Identity = tuple[int, int]


class InUseError(InputError):
    """Another process writes this run file."""


class Claim:
    """The right to write a run file, until it is released or the process ends.

    Args:
        path: of the run file, which is locked if it exists.

    Raises:
        InUseError: another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptors: list[int] = []
        self._built: Path | None = None
        self._found = self._hold(path, 0)

    def build(self) -> Path:
        """Makes and locks a file beside the run file, in which its successor is written.

        Returns:
            The path of this file.

        Raises:
            InUseError: another process writes a successor, or has put one in place.
            OSError: the file cannot be made.
        """
        if self._built is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = files.make_temporary_name(self.path)
            self._hold(temporary, os.O_CREAT)
            self._built = temporary
            if _identify(self.path) != self._found:
                raise self._make_in_use_error()
        return self._built

    def put_in_place(self) -> None:
        """Replaces the run file by its successor, which keeps its lock."""
        files.rename(self.build(), self.path)
        self._built = None

    def release(self) -> None:
        """Gives the right back, and removes a successor that was not put in place."""
        if self._built is not None:
            self._built.unlink(missing_ok=True)
            self._built = None
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _hold(self, path: Path, flags: int) -> Identity | None:
        """Locks the file at a path; returns its identity, or None where there is no file."""
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | flags, 0o666)
            except OSError:
                if flags:
                    raise
                return _identify(path)  # none, or one that nobody can lock
            self._descriptors.append(descriptor)
            if not _lock(descriptor):
                raise self._make_in_use_error()
            if _identify(descriptor) == _identify(path):
                return _identify(descriptor)
            os.close(self._descriptors.pop())  # its writer has just replaced it

    def _make_in_use_error(self) -> InUseError:
        self.release()
        return InUseError(f"{self.path}: another process writes this run file")


def is_claimed(path: Path) -> bool:
    """Whether a process holds the claim on a run file, as far as its lock is seen here."""
    with path.open("rb") as file:
        wanted = _make_lock(fcntl.F_WRLCK)
        try:
            found = fcntl.fcntl(file.fileno(), fcntl.F_OFD_GETLK, wanted)
        except OSError:  # a file system without locks
            return False
    return found != _make_lock(fcntl.F_UNLCK)


def _make_lock(kind: int) -> bytes:
    """The struct flock of our byte: type, whence, start, length, process (0 here)."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, LOCKED_BYTE, 1, 0)


def _lock(descriptor: int) -> bool:
    """Locks an open file, and returns whether this process may write it.

    It may not where another process holds the lock.
    """
    for kind in (fcntl.F_WRLCK, fcntl.F_RDLCK):
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _make_lock(kind))
        except OSError as error:
            return error.errno not in HELD_BY_ANOTHER
    return True


def _identify(file: Path | int) -> Identity | None:
    """Returns what distinguishes a file from all others, whatever its name."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
