"""Signals that ask a run to stop: noted when they come, acted on between iterations."""

import signal
import threading
from types import FrameType
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """While entered, notes stopping signals; a second SIGINT ends the process at once.

    For that the first one gives SIGINT its default back: the system acts on it even while this rank
    computes in a kernel or waits in MPI, where no handler of Python's would run. Threads but the
    main one note none, as Python lets them have no handlers.

    Args:
        second: what handles SIGINT from the second one on.
    """

    def __init__(self, second: Any = signal.SIG_DFL) -> None:
        self.received = False
        self._second = second
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        is_main = threading.current_thread() is threading.main_thread()
        for number in _STOPPING if is_main else ():
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._second)
        self.received = True
