"""Standard output and error, whose reader may leave early, or whose encoding may lack letters."""

import contextlib
import os
import sys
from typing import TextIO

# As a shell names the end of a process by SIGPIPE: 128 + 13.
CLOSED_PIPE = 141


def show_every_letter() -> None:
    """Lets streams write a letter that their encoding lacks as its number, without an error."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # no stream of Python's own
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def drop_unwritten(stream: TextIO) -> None:
    """Drops what a closed pipe did not take, of which Python would complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
