"""Measures the wall and CPU seconds that a rank spends in each phase of a run, and its memory.

Phases are exclusive. While a phase runs inside another (communication inside a global step), its
time counts for the inner one only, so that the phases of a rank add up to the time spent in them.
"""

import resource
import time

import numpy as np

PHASES = ("local", "global", "communication", "validation", "io")


class PhaseTimer:
    """Accumulates wall and CPU seconds by phase; used from the main thread only.

    CPU seconds are those of the whole process, all of its threads included.
    """

    def __init__(self) -> None:
        self._seconds = np.zeros((len(PHASES), 2))
        self._phases = {name: _Phase(self, row) for row, name in enumerate(PHASES)}
        self._running: list[int] = []
        self._mark = (0.0, 0.0)

    def phase(self, name: str) -> "_Phase":
        """A context manager whose body counts as the phase `name`, one of PHASES."""
        if name not in self._phases:
            raise ValueError(f"phase {name!r} is unknown; the phases are {', '.join(PHASES)}")
        return self._phases[name]

    def snapshot(self) -> np.ndarray:
        """Seconds so far, (len(PHASES), 2): wall and CPU by phase, running ones included."""
        self._charge()
        return self._seconds.copy()

    def _charge(self) -> None:
        """Adds the time since the last mark to the innermost running phase, and moves the mark."""
        now = (time.perf_counter(), time.process_time())
        if self._running:
            spent = self._seconds[self._running[-1]]
            spent[0] += now[0] - self._mark[0]
            spent[1] += now[1] - self._mark[1]
        self._mark = now


class _Phase:
    """One phase of a timer, entered and left any number of times, within itself too."""

    def __init__(self, timer: PhaseTimer, row: int) -> None:
        self._timer = timer
        self._row = row

    def __enter__(self) -> None:
        self._timer._charge()
        self._timer._running.append(self._row)

    def __exit__(self, *_: object) -> None:
        self._timer._charge()
        self._timer._running.pop()


def measure_peak_memory_mb() -> int:
    """The most memory that this process has had in use, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # Linux counts in kB
