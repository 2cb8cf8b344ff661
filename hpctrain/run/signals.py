"""Signals that ask a run to stop: noted when they come, acted on between iterations."""

import signal
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """While entered, notes stopping signals; a second SIGINT ends the process at once.

    For that the first one gives SIGINT its default back: the system acts on it even while this rank
    computes in a kernel or waits in MPI, where no handler of Python's would run.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        for number in _STOPPING:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.received = True
