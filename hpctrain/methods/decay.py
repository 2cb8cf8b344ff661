"""A factor of step lengths that decays to zero over a given number of steps.

    linear  1 - t/T          cosine  ½ (1 + cos(π t/T))          t = 0 … T

Source of the cosine: Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983, equation 5.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from hpctrain.methods.outcomes import Outcome
from hpctrain.options import Options, refuse_idle


class DecayOptions(Options):
    """Settings of a decay, for methods whose steps have a length that is set."""

    decay_steps: int | None = Field(
        None, ge=1, description="steps T over which step lengths decay to 0; by default they stay"
    )
    decay: Literal["cosine", "linear"] = Field("cosine", description="form of the decay")

    @model_validator(mode="after")
    def _refuse_a_form_alone(self) -> "DecayOptions":
        if self.decay_steps is None:
            refuse_idle(self, {"decay": "without decay_steps"})
        return self

    def find_factor(self, t: int) -> float:
        """The factor of step t, from 0; 0 from step T on."""
        if self.decay_steps is None:
            return 1.0
        passed = min(t / self.decay_steps, 1.0)
        return 1 - passed if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * passed))

    def name_outcome(self, t: int) -> Outcome:
        """How step t ends where nothing else is against it."""
        return Outcome.ACCEPTED if self.find_factor(t) > 0 else Outcome.DECAYED

    def describe_decay(self) -> list[str]:
        """A line of a solver's description, or none."""
        if self.decay_steps is None:
            return []
        return [f"step lengths decay to 0 over {self.decay_steps} steps, {self.decay}"]
