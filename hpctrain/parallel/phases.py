"""Measures how long a rank is in each phase of a run, in wall and CPU seconds, and its memory.

Time counts for one phase only. While a phase runs inside another one (communication inside a global
step), it counts for the inner one. So the phases of a rank add up to the time spent in them.
"""

import resource
import time

import numpy as np

PHASES = ("local", "global", "communication", "validation", "io")


class PhaseTimer:
    """Sums wall and CPU seconds by phase. It is for the main thread only.

    CPU seconds are those of the whole process with all its threads.
    """

    def __init__(self) -> None:
        self._seconds = np.zeros((len(PHASES), 2))
        self._phases = {name: _Phase(self, row) for row, name in enumerate(PHASES)}
        self._running: list[int] = []
        self._mark = (0.0, 0.0)

    def phase(self, name: str) -> "_Phase":
        """Returns a context manager whose body counts as a phase.

        Args:
            name: one of PHASES.
        """
        if name not in self._phases:
            raise ValueError(f"phase {name!r} is unknown; the phases are {', '.join(PHASES)}")
        return self._phases[name]

    def snapshot(self) -> np.ndarray:
        """Returns the seconds so far, (len(PHASES), 2), wall and CPU, running phases included."""
        self._charge()
        return self._seconds.copy()

    def _charge(self) -> None:
        """Adds the time since the last mark to the innermost running phase, and sets a new mark."""
        now = (time.perf_counter(), time.process_time())
        if self._running:
            spent = self._seconds[self._running[-1]]
            spent[0] += now[0] - self._mark[0]
            spent[1] += now[1] - self._mark[1]
        self._mark = now


class _Phase:
    """One phase of a timer, which can be entered any number of times, also within itself."""

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
    """Returns the most memory that this process has used so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # Linux counts in kB
