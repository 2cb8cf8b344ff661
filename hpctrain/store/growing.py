"""Reads an HDF5 file that is being written, or whose writer was killed, without waiting.

HDF5's own way to read a growing file (single writer, multiple readers) takes damage for an
unfinished write, and tries again for hours, with longer and longer pauses. Here the mark "being
written" is removed from the superblock as it is read, so that HDF5 opens the file as any other one.
What does not match its checksum is then an error at once, and the caller decides how often to try.

Source: HDF5 File Format Specification, version 3.0, section II.A (superblock version 3). Its
checksum is Bob Jenkins' lookup3 (hashlittle, 2006).
"""

import io
import os
from pathlib import Path
from typing import Any

SUPERBLOCK_BYTES = 48
VERSION_AT, FLAGS_AT, END_AT, CHECKSUM_AT = 8, 11, 28, 44
SIGNATURE = b"\x89HDF\r\n\x1a\n"
MARKED = 5  # opened for writing, by a single writer with multiple readers
# The superblock of a growing file tells its end late: here it ends beyond all that it may hold,
# but where a file system still lets one seek.
FAR_END = 2**40
FILLER = b"\xff"


def is_marked(path: Path) -> bool:
    """Whether a file is marked as being written: its run goes on, or was killed."""
    with path.open("rb") as file:
        superblock = file.read(SUPERBLOCK_BYTES)
    if len(superblock) < SUPERBLOCK_BYTES or not superblock.startswith(SIGNATURE):
        return False
    return superblock[VERSION_AT] == 3 and superblock[FLAGS_AT] & MARKED != 0


class Unmarked(io.FileIO):
    """The bytes of a marked file, but with the superblock of a file that was closed.

    Behind its end it seems to go on with bytes 0xFF. These are no valid metadata, so that metadata
    which was cut off is an error. Data that was cut off must be found by the caller.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._superblock = _remove_mark(self.read(SUPERBLOCK_BYTES))

    def readinto(self, buffer: Any) -> int:
        start, view = self.tell(), memoryview(buffer).cast("B")
        found = super().readinto(view) or 0
        view[found:] = FILLER * (len(view) - found)
        head = self._superblock[start : start + len(view)]
        view[: len(head)] = head
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset, whence = FAR_END + offset, os.SEEK_SET
        return super().seek(offset, whence)


def _remove_mark(superblock: bytes) -> bytes:
    """Removes the mark from a superblock, moves its end of file far away, and renews its checksum.

    A superblock whose checksum is wrong stays as it is, so that HDF5 reports it.
    """
    content, checksum = superblock[:CHECKSUM_AT], superblock[CHECKSUM_AT:]
    if lookup3(content) != int.from_bytes(checksum, "little"):
        return superblock
    changed = bytearray(content)
    changed[FLAGS_AT] &= ~MARKED
    changed[END_AT : END_AT + 8] = FAR_END.to_bytes(8, "little")
    return bytes(changed) + lookup3(bytes(changed)).to_bytes(4, "little")


def lookup3(data: bytes) -> int:
    """Computes the 32-bit hash that HDF5 appends to its metadata; `data` must not be empty."""
    a = b = c = (0xDEADBEEF + len(data)) & 0xFFFFFFFF
    words = [
        int.from_bytes(data[start : start + 4].ljust(4, b"\0"), "little")
        for start in range(0, -(-len(data) // 12) * 12, 4)
    ]
    for start in range(0, len(words), 3):
        a, b, c = (
            (x + word) & 0xFFFFFFFF
            for x, word in zip((a, b, c), words[start : start + 3], strict=True)
        )
        a, b, c = _mix(a, b, c) if start + 3 < len(words) else _mix_at_end(a, b, c)
    return c


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turns in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & 0xFFFFFFFF) ^ _rotate(c, turns)
        c = (c + b) & 0xFFFFFFFF
        a, b, c = b, c, a
    return a, b, c


def _mix_at_end(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turns in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotate(b, turns)) & 0xFFFFFFFF
        a, b, c = b, c, a
    # After seven turns the last one to change stands in b.
    return c, a, b


def _rotate(x: int, turns: int) -> int:
    return ((x << turns) | (x >> (32 - turns))) & 0xFFFFFFFF
