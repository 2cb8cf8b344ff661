"""What commands print, and the exit status of one whose reader, or whose disk, takes no more."""

import sys
import traceback
from typing import Any

from hpctrain.errors import BAD_INPUT, InputError
from hpctrain.run import streams

FAILED = 1


def write(text: str) -> int:
    """Prints what a command has to say; the status that it ends with."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        return end_quietly()
    except OSError as error:
        streams.drop_unwritten(sys.stdout)
        say(f"standard output cannot be written: {error.strerror}")
        return FAILED
    return 0


def end_quietly() -> int:
    """Ends quietly, as other commands do: `hpctrain report RUN.h5 | head`."""
    for stream in (sys.stdout, sys.stderr):
        streams.drop_unwritten(stream)
    return streams.CLOSED_PIPE


def refuse(error: InputError) -> int:
    """Says what input was bad; the status of that."""
    trace(error)
    say(str(error))
    return BAD_INPUT


def trace(error: Exception) -> None:
    """With HPCTRAIN_DEBUG=1 the calls that led to an error which was made one line of."""
    if error.__cause__ is None:
        return
    from hpctrain.parallel.guard import is_wanted

    if is_wanted():
        traceback.print_exception(error.__cause__)


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line, in place of Python's two with the place in the source."""
    say(f"warning: {' '.join(str(message).split())}")


def say(line: str) -> None:
    """A line on standard error."""
    try:
        print(f"hpctrain: {line}", file=sys.stderr, flush=True)
    except OSError:  # nobody reads on
        streams.drop_unwritten(sys.stderr)
