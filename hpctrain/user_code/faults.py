"""Describes faults in Python code of the user in one line that names the place."""

import inspect
import re
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Lines of these are not the user's; those of this package neither.
_LIBRARIES = (Path(sysconfig.get_path("stdlib")), Path(__file__).parents[1])
MOST_LETTERS = 400
_PACKAGE = f"{__name__.partition('.')[0]}."
_PACKAGES = {"site-packages", "dist-packages"}
# What torch says of functions that are not its own, and what to write instead.
_ADVICE = {
    "Can't call numpy()": "numpy's functions lose derivatives: use torch's, such as torch.sin",
    "only one element tensors can be converted": (
        "this takes one number, not a tensor: use torch's functions, such as torch.sin"
    ),
    "Boolean value of Tensor with more than one": (
        "a tensor has no one truth value: use torch.where(condition, a, b), and & for and"
    ),
}


def explain(error: BaseException, otherwise: str = "") -> str:
    """Describes an exception as "my_pde.py:12: ValueError: why", by the user's innermost line.

    Args:
        error: the exception, as it came out of the user's code.
        otherwise: the place to be named if no line of the user's is among the calls.
    """
    if isinstance(error, SyntaxError) and error.filename:
        place, reason = f"{_shorten_path(error.filename)}:{error.lineno}", error.msg
    else:
        places = [
            f"{_shorten_path(call.filename)}:{call.lineno}"
            for call in traceback.extract_tb(error.__traceback__)
            if _is_users(call.filename)
        ]
        place, reason = places[-1] if places else otherwise, str(error)
    reason = next((advice for said, advice in _ADVICE.items() if said in reason), reason)
    text = " ".join(f"{type(error).__name__}: {reason}{_say_how_to_call(error)}".split())
    if len(text) > MOST_LETTERS:
        text = f"{text[:MOST_LETTERS]}…"
    return f"{place}: {text}" if place else text


def place_of(function: Callable[..., Any]) -> str:
    """Returns where a function is defined, as "my_pde.py:10", or else the name of its type."""
    function = inspect.unwrap(function)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None:
        return type(function).__name__
    return f"{_shorten_path(code.co_filename)}:{code.co_firstlineno}"


def _say_how_to_call(error: BaseException) -> str:
    """Returns the first line that documents a class of this package called wrongly."""
    named = re.match(r"(\w+)\.__init__\(\)", str(error)) if isinstance(error, TypeError) else None
    if named is None:
        return ""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    called = frames[-1].f_globals.get(named[1]) if frames else None
    if not isinstance(called, type) or not called.__module__.startswith(_PACKAGE):
        return ""
    return f"; {named[1]}: {(called.__doc__ or '').splitlines()[0]}"


def _is_users(file: str) -> bool:
    """Whether a file was written by the user."""
    path = Path(file)
    is_library = any(library in path.parents for library in _LIBRARIES)
    return not (file.startswith("<") or is_library or _PACKAGES & set(path.parts))


def _shorten_path(file: str) -> str:
    """Returns a path relative to the folder in which hpctrain started, if it lies below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
