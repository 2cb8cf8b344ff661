"""How an iteration of a method ended, in the method's own terms."""

from enum import Enum


class Outcome(Enum):
    """How an iteration ended.

    An iteration with a final outcome leaves nothing to try: the same one would follow again.

    Attributes:
        text: the outcome as users read it.
        is_final: whether nothing is left to try.
    """

    ACCEPTED = "a step was taken", False
    REFUSED = "the trial step was refused", False
    MEMORY_DROPPED = "the search found no decrease: the secant pairs were dropped", False
    DIRECTION_DROPPED = "no step lowered the loss: the last direction was forgotten", False
    DECREASE_FORCED = "the trial step was shortened until it lowered the loss", False
    SAMPLES_MISLED = "the step foreseen on some samples was refused: more of them come next", False
    SAMPLES_EXHAUSTED = "no decrease was found on these samples: others come next", False
    SKETCH_EXHAUSTED = "no damping gave a decrease with this sketch: another one comes next", False

    NO_DESCENT = "the line search found no decrease along the negative gradient", True
    NO_NEWTON_DESCENT = "the line search found no decrease along the Newton direction", True
    NO_BLOCK_DESCENT = (
        "neither corrections of the blocks nor the negative gradient lower the loss",
        True,
    )
    NO_LOWER_LOSS = "torch.optim.LBFGS found no lower loss and would repeat itself", True
    NO_CHANGE_BY_CYCLE = "a cycle over the levels left the parameters as they were", True
    SINGULAR_SYSTEM = (
        "the damped system is singular in rounding: a greater solver.damping is needed",
        True,
    )
    STEP_UNDERFLOW = "the step is too short to change the parameters", True
    DAMPING_LIMIT = (
        "no damping up to solver.greatest_damping gives a decrease beyond rounding errors",
        True,
    )
    NO_DECREASE_FORESEEN = (
        "the decrease that the trust-region model foresees is below round-off",
        True,
    )
    NO_SUBDOMAIN_DECREASE = "no subdomain found a decrease above round-off", True
    LEAST_RADIUS = "no decrease was found within the least radius of the trust region", True
    DECAYED = "step lengths have decayed to zero: solver.decay_steps are over", True

    def __init__(self, text: str, is_final: bool) -> None:
        self.text = text
        self.is_final = is_final

    @property
    def is_doubtful(self) -> bool:
        """Whether all that was tried failed, as it also does where the loss is NaN."""
        others = (Outcome.SAMPLES_EXHAUSTED, Outcome.SKETCH_EXHAUSTED, Outcome.DIRECTION_DROPPED)
        return self.is_final or self in others

    @property
    def number(self) -> int:
        """By which a history column holds the outcome: its place in this list, from 0."""
        return list(Outcome).index(self)

    def take_samples(self) -> "Outcome":
        """What the outcome means where the iteration saw some samples only: it is not final."""
        return Outcome.SAMPLES_EXHAUSTED if self.is_final else self
