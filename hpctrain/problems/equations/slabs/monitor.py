"""The errors of a solution in windows: in the one that is trained, and over all at the end."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.errors import ErrorMonitor
from hpctrain.problems.equations.problem import PinnProblem


class Windowed(Protocol):
    """A problem that is solved window by window."""

    windows: list[PinnProblem]
    bounds: list[tuple[float, float]]
    state: Any

    def list_parameters(self, theta: Tensor) -> list[Tensor]: ...


class SlabMonitor:
    """See `problems.base.Monitor`: an `ErrorMonitor` of the window in training."""

    def __init__(
        self, problem: Windowed, communicator: Communicator, chunks: int, threads: int
    ) -> None:
        self._problem, self._communicator = problem, communicator
        self._chunks, self._threads = chunks, threads
        self._window, self._own = 0, self._make(0)
        self.columns = self._own.columns
        self._last: dict[str, float] = {}
        self._whole: dict[str, float] = {}

    def _make(self, window: int) -> ErrorMonitor:
        problem = self._problem.windows[window]
        return problem.make_monitor(self._communicator, self._chunks, self._threads)

    def measure(self, theta: Tensor) -> dict[str, float]:
        if self._window != self._problem.state.window:
            self._window = self._problem.state.window
            self._own = self._make(self._window)
        self._last = self._own.measure(theta)
        return self._last | self._whole

    def evaluate_solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        """As of one window, for all that have begun, along time.

        `measure` has the errors over all of it from then on.
        """
        thetas = self._problem.list_parameters(theta)
        monitors = [self._make(window) for window in range(len(thetas))]
        pairs = list(zip(monitors, thetas, strict=True))
        lengths = [high - low for low, high in self._problem.bounds[: len(thetas)]]
        self._whole = ErrorMonitor.join_errors(pairs, lengths)
        parts = [monitor.evaluate_solution(each) for monitor, each in pairs]
        has_grid = self._problem.windows[0].equations.grid is not None
        joined = {}
        for name, values in parts[0].items():
            if has_grid and values.ndim == 1 and name in self._problem.windows[0].coordinates[1:]:
                joined[name] = values
            else:  # a grid's first time is the last one of the window before
                rest = [part[name][1 if has_grid else 0 :] for part in parts[1:]]
                joined[name] = np.concatenate([values, *rest])
        return joined

    def describe_progress(self, values: Mapping[str, float]) -> str:
        said = self._own.describe_progress(values)
        return f"{said} in window {self._window + 1}" if said else ""

    def describe_values(self, values: Mapping[str, float]) -> str:
        if not self._whole:
            return self._own.describe_values(values)
        said = self._own.describe_values(self._last)
        over = ", ".join(f"{name} {value:.3e}" for name, value in self._whole.items())
        return f"over all windows {over}; in the last one {said}"
