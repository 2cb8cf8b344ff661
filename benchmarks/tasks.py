"""What studies of many runs share: which are left, how long they take, and a turn for each.

Runs lie in a folder. Those that have ended are used, so that a study may be made over many
sittings, and stopped at any time by a signal.
"""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from hpctrain.errors import HpctrainError
from hpctrain.run.signals import StopSignals


class Task(Protocol):
    """A run of a study."""

    @property
    def name(self) -> str: ...

    @property
    def seconds(self) -> float:
        """How long the whole run takes, roughly or at most."""

    def has_ended(self, folder: Path) -> bool:
        """Whether nothing is left to run."""

    def advance(self, folder: Path, signals: StopSignals, seconds: float) -> None:
        """Begins the run, or goes on with it, to its end or for so many seconds.

        Raises:
            HpctrainError: it failed; the message is one line.
        """


def describe_duration(folder: Path, tasks: Sequence[Task]) -> str:
    """How many runs there are and how long they take, and how much of it is left."""
    left = [each for each in tasks if not each.has_ended(folder)]
    whole, rest = (
        timedelta(seconds=round(sum(each.seconds for each in its))) for its in (tasks, left)
    )
    return f"{len(tasks)} runs, about {whole}; left are {len(left)} runs, {rest}"


def run_missing(
    folder: Path,
    tasks: Sequence[Task],
    signals: StopSignals,
    seconds: float = math.inf,
    at_once: float = math.inf,
) -> list[str]:
    """Runs what has not ended, each for a while at a time, until the time is over or a signal came.

    One that fails is said, and tried again the next time.

    Args:
        folder: of the runs.
        tasks: the runs, in order.
        signals: by which it is stopped.
        seconds: for all of them.
        at_once: for one before the next has its turn.

    Returns:
        The names of those that failed.
    """
    deadline, failed = time.monotonic() + seconds, list[str]()
    for task in _take_turns(folder, tasks, failed):
        left = deadline - time.monotonic()
        if left <= 0 or signals.received:
            break
        print(task.name, file=sys.stderr, flush=True)
        try:
            task.advance(folder, signals, min(left, at_once))
        except HpctrainError as error:
            if signals.received:
                break
            print(f"  {error}", file=sys.stderr, flush=True)
            failed.append(task.name)
    return failed


def _take_turns(folder: Path, tasks: Sequence[Task], failed: Sequence[str]) -> Iterator[Task]:
    """Each that has neither ended nor failed, again and again until there is none."""
    waiting = [each for each in tasks if not each.has_ended(folder)]
    while waiting:
        yield from waiting
        waiting = [
            each for each in waiting if each.name not in failed and not each.has_ended(folder)
        ]
