"""What is said of an exception that code of the user's own raised: one line, with its place."""

import sysconfig
import traceback
from pathlib import Path

MOST_LETTERS = 400
# Code that is not the user's: this package, the standard library, what is installed.
_OTHERS = (
    str(Path(__file__).parent),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def said(error: BaseException) -> str:
    """The type and the message of an exception, and the user's line it came from, if there is."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if len(text) > MOST_LETTERS:
        text = f"{text[:MOST_LETTERS]}…"
    place = _place(error)
    return f"{text} ({place})" if place else text


def _place(error: BaseException) -> str | None:
    """File and line of the innermost call that is in a file of the user's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*_OTHERS, "<")):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return None
