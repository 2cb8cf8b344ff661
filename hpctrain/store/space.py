"""Writes HDF5 files on a disk that may become full.

HDF5 cannot close a file after one of its writes has failed: it tries again when the process ends,
and crashes. Here no write of HDF5's ever fails. `Reserve` reserves disk space for a growing file
before HDF5 writes to it. `Sink` notes that a write failed, drops all later ones, and is asked
about it at the end.
"""

import errno
import io
import os
from pathlib import Path
from typing import Any

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Sink(io.FileIO):
    """A new file. When a write has failed, it drops all later ones without an error.

    Use: `with Sink(path) as sink, h5py.File(sink, "w") as file: …`, then `sink.check()`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        try:
            while self._failure is None and written < len(view):
                written += super().write(view[written:])
        except OSError as error:
            self._failure = error
        return len(view)

    def check(self) -> None:
        """Raises the error of the first write that failed, if one did.

        Raises:
            OSError: that error.
        """
        if self._failure is not None:
            raise self._failure


class Reserve:
    """Reserves disk space behind the end of a growing file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0

    def keep(self, end: int) -> None:
        """Reserves space so that the file can grow to `end` bytes.

        Raises:
            OSError: there is no space for it. The file is unchanged.
        """
        if end <= self._end:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.posix_fallocate(descriptor, self._end, end - self._end)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise
            # A file system that reserves nothing: then its word is all there is.
        finally:
            os.close(descriptor)
        self._end = end
