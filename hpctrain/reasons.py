"""Why a run ends."""

from enum import IntEnum


class Reason(IntEnum):
    """Ordered by weight: where ranks or criteria differ, the greatest wins."""

    RUNNING = 0
    MAX_ITERATIONS = 1
    MAX_GRADIENT_EVALUATIONS = 2
    STALLED = 3
    GRADIENT_NORM = 4
    ERROR = 5
    MAX_SECONDS = 6
    SIGNAL = 7
    NON_FINITE = 8

    @property
    def text(self) -> str:
        """The reason in words."""
        return {
            Reason.RUNNING: "running",
            Reason.MAX_ITERATIONS: "stop.max_iterations reached",
            Reason.MAX_GRADIENT_EVALUATIONS: "stop.max_gradient_evaluations reached",
            Reason.STALLED: "no further decrease found: the line search is at round-off",
            Reason.GRADIENT_NORM: "stop.gradient_norm reached",
            Reason.ERROR: "stop.error reached",
            Reason.MAX_SECONDS: "stop.max_seconds reached",
            Reason.SIGNAL: "stopped by a signal",
            Reason.NON_FINITE: "the loss is not finite",
        }[self]

    @property
    def status(self) -> int:
        """The exit status: 75 means stopped before the end, with a checkpoint written."""
        if self in (Reason.MAX_SECONDS, Reason.SIGNAL):
            return 75
        return 1 if self is Reason.NON_FINITE else 0
