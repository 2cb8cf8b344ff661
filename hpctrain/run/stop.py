"""Why a run ends."""

from enum import IntEnum

from hpctrain.methods.outcomes import Outcome


class Reason(IntEnum):
    """Ordered by weight: where ranks or criteria differ, the greatest wins."""

    RUNNING = 0
    MAX_ITERATIONS = 1
    MAX_GRADIENT_EVALUATIONS = 2
    STALLED = 3
    GRADIENT_NORM = 4
    ZERO_GRADIENT = 5
    ERROR = 6
    TEST_ACCURACY = 7
    SUBOPTIMALITY = 8
    MAX_SECONDS = 9
    SIGNAL = 10
    NON_FINITE = 11
    OUTPUT_FAILED = 12

    @property
    def text(self) -> str:
        """The reason in words."""
        return {
            Reason.RUNNING: "running",
            Reason.MAX_ITERATIONS: "stop.max_iterations reached",
            Reason.MAX_GRADIENT_EVALUATIONS: "stop.max_gradient_evaluations reached",
            Reason.STALLED: "the solver has nothing left to try",
            Reason.GRADIENT_NORM: "stop.gradient_norm reached",
            Reason.ZERO_GRADIENT: "the gradient is zero",
            Reason.ERROR: "stop.error reached",
            Reason.TEST_ACCURACY: "stop.test_accuracy reached",
            Reason.SUBOPTIMALITY: "stop.suboptimality reached",
            Reason.MAX_SECONDS: "stop.max_seconds reached",
            Reason.SIGNAL: "stopped by a signal",
            Reason.NON_FINITE: "the loss is not finite",
            Reason.OUTPUT_FAILED: "the run file cannot be written",
        }[self]

    def explain(self, outcome: Outcome) -> str:
        """The reason in words; those of the solver's last outcome where that ends the run."""
        return outcome.text if self is Reason.STALLED else self.text

    @property
    def status(self) -> int:
        """The exit status: 75 means stopped before the end, with a checkpoint written."""
        if self in (Reason.MAX_SECONDS, Reason.SIGNAL):
            return 75
        return 1 if self >= Reason.NON_FINITE else 0
