"""The settings of what is renewed in the course of a run: the table `[problem.adapt]`."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from hpctrain.options import Options, refuse_idle

RAD_ONLY, TERMS_ONLY = 'without points = "rad"', "without weights"
POINTS_ONLY = "without points"
CAUSAL_ONLY = 'without sample_weights = "causal"'
SELF_ADAPTIVE_ONLY = 'without sample_weights = "self-adaptive"'


class AdaptOptions(Options):
    """What of the loss follows the solution, and how often."""

    every: int = Field(500, ge=1, description="iterations between two renewals")
    points: Literal["rad", "r3", "fresh"] | None = Field(
        None,
        description="where the equation's points are: drawn by the residual, retained, or with"
        " those of conditions evenly distributed ones, others in each renewal",
    )
    candidates: int | None = Field(
        None, ge=1, description="points that rad draws from; by default ten times problem.points"
    )
    power: float = Field(1.0, ge=0, description="k of rad's density |r|^k / mean |r|^k + c")
    offset: float = Field(1.0, ge=0, description="c of rad's density")
    guard: float = Field(
        100.0,
        ge=0,
        description="times the loss before that the loss on new points may be, else the run goes"
        " back to an earlier renewal, and quasi-Newton methods begin anew; 0 for any",
    )
    weights: Literal["gradients", "ntk"] | None = Field(
        None, description="conditions weighed by norms of gradients, or by traces of the NTK"
    )
    memory: float = Field(0.9, ge=0, lt=1, description="part of the last weight in the next one")
    sample_weights: Literal["causal", "self-adaptive"] | None = Field(
        None, description="weights of the equation's points: in the order of time, or by residual"
    )
    bins: int = Field(32, ge=2, description="M, parts of the time of causal weights")
    epsilons: list[float] = Field(
        [0.01, 0.1, 1.0, 10.0, 100.0],
        min_length=1,
        description="ε of causal weights, the next one where all weights exceed threshold",
    )
    threshold: float = Field(0.99, gt=0, lt=1, description="δ, of the least causal weight")
    rate: float = Field(
        0.1, gt=0, description="the largest step of a self-adaptive weight's root up the loss"
    )

    @field_validator("epsilons")
    @classmethod
    def _ascend(cls, epsilons: list[float]) -> list[float]:
        if epsilons != sorted(epsilons) or not epsilons[0] > 0:
            raise ValueError("numbers above 0, in ascending order")
        return epsilons

    @field_validator("guard")
    @classmethod
    def _exceed_one(cls, guard: float) -> float:
        if 0 < guard <= 1:
            raise ValueError("0, or above 1")
        return guard

    @model_validator(mode="after")
    def _refuse_idle(self) -> "AdaptOptions":
        if self.points is None and self.weights is None and self.sample_weights is None:
            raise ValueError("needs points, weights or sample_weights: else nothing is renewed")
        if self.points is not None and self.sample_weights == "self-adaptive":
            raise ValueError(
                f'points = "{self.points}" with sample_weights = "self-adaptive": these weights'
                " belong to points that stay where they are"
            )
        if self.points != "rad":
            refuse_idle(self, dict.fromkeys(("candidates", "power", "offset"), RAD_ONLY))
        if self.points is None:
            refuse_idle(self, {"guard": POINTS_ONLY})
        if self.weights is None:
            refuse_idle(self, {"memory": TERMS_ONLY})
        if self.sample_weights != "causal":
            refuse_idle(self, dict.fromkeys(("bins", "epsilons", "threshold"), CAUSAL_ONLY))
        if self.sample_weights != "self-adaptive":
            refuse_idle(self, {"rate": SELF_ADAPTIVE_ONLY})
        return self
