"""Trust-region training with a linear model, an L-SR1 model or the exact Hessian.

    θ ← θ + s if ρ ≥ η₁;  Δ shrinks or grows with ρ     (`methods.trust_region.step`)

L, g and B may each be of all samples or of some, which are drawn anew in every
step:

    sampling       L         g         B         as in
    exact          all       all       all       Conn, Gould, Toint 2000, algorithm 6.1.1
    hessian        all       all       sample    Xu, Roosta, Mahoney, Mathematical Programming 184
    derivatives    all       sample    sample    Gratton, Royer, Vicente, Zhang, IMA JNA 38; Erway
    growing        sample    sample    sample    Chen, Menickelly, Scheinberg, Mathematical
                                                 Programming 169; Blanchet et al., INFORMS JO 1

The growing sample keeps the error of g in proportion to the step, |S_k+1| = |S_0| (Δ₀/‖s_k‖)², at
most twice as large as the last one and never smaller: short steps need a sharp gradient. With
`batch_size` L, g and B are those of mini-batches, which go through all samples epoch by epoch.

Sources, beside those: Nocedal and Wright, Numerical Optimization (2006), algorithm 6.2 (SR1).
"""

import math
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import norm
from hpctrain.methods.sampling.mini_batches import mini_batches
from hpctrain.methods.sampling.subsets import random_subset
from hpctrain.methods.trust_region.sampled import Functions, TrustRegionState, sampled_step
from hpctrain.methods.trust_region.step import (
    ModelOptions,
    check_model,
    described_model,
    described_region,
)
from hpctrain.objective import evaluate
from hpctrain.solvers.base import Record, Setting, Solver

# By how much a growing sample may grow from one step to the next.
SAMPLE_GROWTH = 2


class TrustRegionSolverOptions(ModelOptions):
    """Settings of the trust-region solver."""

    name: Literal["trust-region"] = "trust-region"
    sampling: Literal["exact", "hessian", "derivatives", "growing"] = Field(
        "exact", description="what is taken over a sample: nothing, B, g and B, or L, g and B"
    )
    sample_size: int = Field(
        1000, ge=1, description="samples drawn for a step, the first one where they grow"
    )
    batch_size: int | None = Field(
        None, ge=1, description="samples of a mini-batch; by default all samples"
    )
    batch_overlap: float = Field(
        0.0, ge=0, lt=100, description="percent of the other samples that a mini-batch draws too"
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> "TrustRegionSolverOptions":
        if self.sampling != "exact" and self.batch_size is not None:
            raise ValueError(f'sampling = "{self.sampling}" draws from all samples, not batch_size')
        if self.sampling == "hessian" and self.model == "linear":
            raise ValueError('sampling = "hessian" samples B, which model = "linear" has not')
        return self


class TrustRegion(Solver[TrustRegionState]):
    """Single-level trust region on all parameters.

    Nominal costs count the gradients of L, those of a mini-batch as the part of it that it is; an
    update of the memory is one of the full model's.
    """

    names = ("trust-region",)
    Options = TrustRegionSolverOptions

    def __init__(self, setting: Setting, options: TrustRegionSolverOptions) -> None:
        super().__init__(setting, options)
        check_model(setting.objective, options)
        self._batches = mini_batches(
            setting.objective, setting.seed, options.batch_size, options.batch_overlap
        )
        if options.sampling != "exact":
            if not setting.objective.has_subsets:
                raise InputError(
                    f'solver.sampling = "{options.sampling}": this problem\'s loss cannot be taken'
                    ' over some of its samples; allowed is "exact"'
                )
            self._check_size(options.sample_size)

    def _check_size(self, size: int) -> None:
        samples = self.setting.objective.samples
        if size > samples:
            raise InputError(
                f"solver.sample_size = {size} is not allowed: at most {samples}, the number of"
                " samples"
            )

    def init(self, theta: Tensor) -> TrustRegionState:
        o = self.options
        with self.setting.timer.phase("global"):
            point = evaluate(self.setting.objective, theta)
            return TrustRegionState(point, o.trust_region.radius, sample_size=o.sample_size)

    def step(self, state: TrustRegionState) -> tuple[TrustRegionState, Record]:
        o = self.options
        exact = o.sampling == "exact" and o.batch_size is None
        with self.setting.timer.phase("global"):
            new = sampled_step(self._functions(state), state, o)
        new.sample_size = self._next_sample_size(new)
        # A sample without a decrease says nothing of the next one.
        if not exact:
            new.outcome = new.outcome.of_samples()
        return new, Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=new.step_length,
            nominal_gradient_evaluations=self._batches.fraction * new.gradients,
            update_cost=float(o.model == "lsr1"),
            outcome=new.outcome,
            epoch=self._batches.epoch(new.iteration),
            ends_epoch=self._batches.ends_epoch(new.iteration),
        )

    def _functions(self, state: TrustRegionState) -> Functions:
        """Where this step takes L, g and B from."""
        L = self.setting.objective
        if self.options.batch_size is not None:
            batch = self._batches.objective(L, state.iteration)
            return Functions(batch, batch, batch, known=False)
        if self.options.sampling == "exact":
            return Functions(L, L, L)
        chosen = random_subset(self.setting.seed, L.samples, state.sample_size, state.iteration)
        sample = L.subset(chosen)
        match self.options.sampling:
            case "hessian":
                return Functions(L, L, sample)
            case "derivatives":
                return Functions(L, sample, sample, known=False)
        return Functions(sample, sample, sample, known=False)

    def _next_sample_size(self, state: TrustRegionState) -> int:
        if self.options.sampling != "growing" or not state.step_length:
            return state.sample_size
        ratio = self.options.trust_region.radius / state.step_length
        wanted = self.options.sample_size * min(ratio**2, self.setting.objective.samples)
        largest = min(SAMPLE_GROWTH * state.sample_size, self.setting.objective.samples)
        return max(state.sample_size, min(math.ceil(wanted), largest))

    def describe(self) -> list[str]:
        o = self.options
        sampled = {
            "exact": self._batches.described(),
            "hessian": f"B of {o.sample_size} samples drawn for a step, L and g of all",
            "derivatives": f"g and B of {o.sample_size} samples drawn for a step, L of all",
            "growing": f"L, g and B of samples drawn for a step, {o.sample_size} at first, growing",
        }
        return [
            f"trust region, {described_model(o)}",
            sampled[o.sampling],
            *described_region(o),
        ]
