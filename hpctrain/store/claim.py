"""One process at a time writes a run file: it holds a lock, which ends with it, however it ends.

The lock is on a byte far beyond the end of the file, and belongs to the open file (Linux: `fcntl`,
F_OFD_SETLK): nothing of it is stored, and no reader meets it. It is taken alone and then held
shared, as a file system may let the shared locks of HDF5's readers meet it (NFS). A file system
without locks locks nothing out.
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
        path: the run file, which is locked if it is there.

    Raises:
        InUseError: another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptors: list[int] = []
        self._built: Path | None = None
        self._found = self._hold(path, 0)

    def build(self) -> Path:
        """A file beside it, locked as well, in which its successor is built; made if need be.

        Raises:
            InUseError: another process builds one, or has put one in place.
            OSError: it cannot be made.
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
        """What was built takes the place of the run file; the lock goes with it."""
        files.rename(self.build(), self.path)
        self._built = None

    def release(self) -> None:
        """Gives the right back, and removes what is not put in place."""
        if self._built is not None:
            self._built.unlink(missing_ok=True)
            self._built = None
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _hold(self, path: Path, flags: int) -> Identity | None:
        """Locks the file of this name; which one that is, None if there is none."""
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


def _lock(descriptor: int) -> bool:
    """Locks an open file, unless another process has; whether this one may write it."""
    for kind in (fcntl.F_WRLCK, fcntl.F_RDLCK):
        # struct flock: type, whence, start, length, process (0 here)
        wanted = struct.pack("hhqqi4x", kind, os.SEEK_SET, LOCKED_BYTE, 1, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            return error.errno not in HELD_BY_ANOTHER
    return True


def _identify(file: Path | int) -> Identity | None:
    """What tells a file from all others, whatever its name."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
