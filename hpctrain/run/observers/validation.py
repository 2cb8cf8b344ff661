"""Asks the problem's monitor how good θ is, every so many iterations."""

import math
from collections.abc import Mapping

from torch import Tensor

from hpctrain.problems.base import Monitor


class Validation:
    """Asks the monitor about θ every so many iterations, and keeps what it said last.

    Args:
        monitor: the problem's.
        period: iterations between two questions.

    Attributes:
        values: a number for each of the monitor's columns, NaN before the first question.
    """

    def __init__(self, monitor: Monitor, period: int) -> None:
        self.monitor = monitor
        self._period = period
        self.values: Mapping[str, float] = dict.fromkeys(monitor.columns, math.nan)

    def is_due(self, iteration: int) -> bool:
        """Whether it is time to ask."""
        return iteration % self._period == 0

    def measure(self, theta: Tensor) -> None:
        """Asks the monitor about θ (n,); collective."""
        self.values = self.monitor.measure(theta)
