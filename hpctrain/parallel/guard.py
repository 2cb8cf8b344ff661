"""Checks, before each collective call, that all ranks make the same one from the same place.

Ranks that make different calls wait for each other for ever, far from the branch at which they
separated. With `HPCTRAIN_DEBUG=1` they first compare where they are, and the run ends with a
message that names the places. It costs a gather of some hundred bytes for each call.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from hpctrain.errors import RunError

PACKAGE = Path(__file__).parents[1]
# Of the chain of calls that leads to a collective one, those that are named.
CALLS = 8


class DisagreementError(RunError):
    """Ranks are at different places; all of them raise it."""


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the user has set HPCTRAIN_DEBUG to 1."""
    return environ.get("HPCTRAIN_DEBUG", "") not in ("", "0")


class Guard:
    """Checks the ranks of one mpi4py communicator, which others use too."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._calls = 0

    def check(self) -> None:
        """Compares the places of all ranks; collective.

        Raises:
            DisagreementError: they are not all at the same place.
        """
        self._calls += 1
        place = _describe_place(sys._getframe(1))
        places = self._mpi.allgather((self._calls, place))
        if len(set(places)) > 1:
            raise DisagreementError(_describe_parting(places))


def _describe_place(frame: FrameType | None) -> str:
    """Lists this package's calls that lead here, innermost first, without the communicator's."""
    calls: list[str] = []
    while frame is not None and len(calls) < CALLS:
        code = frame.f_code
        file = Path(code.co_filename)
        if file.name != "communicator.py":
            inside = PACKAGE in file.parents
            name = file.relative_to(PACKAGE) if inside else file.name
            calls.append(f"{name}:{frame.f_lineno} ({code.co_name})")
        elif not code.co_name.startswith("_"):
            calls.append(f"{code.co_name} of the communicator")
        frame = frame.f_back
    return " < ".join(calls)


def _describe_parting(places: list[tuple[int, str]]) -> str:
    """Writes a line that names the ranks at each place."""
    at: dict[tuple[int, str], list[int]] = {}
    for rank, each in enumerate(places):
        at.setdefault(each, []).append(rank)
    named = (
        f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))} at call {call},"
        f" {place}"
        for (call, place), ranks in at.items()
    )
    return f"the ranks have parted: {'; '.join(named)}"
