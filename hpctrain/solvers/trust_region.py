"""Trust-region training with a linear model, an L-SR1 model or the exact Hessian.

    s ≈ argmin m(s), ‖s‖ ≤ Δ;   θ ← θ + s if ρ ≥ η₁;   Δ shrinks or grows with ρ

(`methods.trust_region.step`). L, g and B may each be of all samples or of some, which are drawn
anew in every step (`methods.trust_region.sampling`):

    sampling       L         g         B         as in
    exact          all       all       all       Conn, Gould, Toint 2000, algorithm 6.1.1
    hessian        all       all       sample    Xu, Roosta, Mahoney, Mathematical Programming 184
    derivatives    all       sample    sample    Gratton, Royer, Vicente, Zhang, IMA JNA 38; Erway
    growing        sample    sample    sample    Chen, Menickelly, Scheinberg, Mathematical
                                                 Programming 169; Blanchet et al., INFORMS JO 1

With `batch_size` L, g and B are those of mini-batches, which go through all samples epoch by epoch.

Sources, beside those: Nocedal and Wright, Numerical Optimization (2006), algorithm 6.2 (SR1).
"""

from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import norm
from hpctrain.methods.quasi_newton.update_cost import count_pairs
from hpctrain.methods.sampling.mini_batches import make_mini_batches
from hpctrain.methods.trust_region.options import (
    NormedModelOptions,
    check_model,
    describe_window,
    make_rule,
)
from hpctrain.methods.trust_region.sampled import TrustRegionState, make_step
from hpctrain.methods.trust_region.sampling import (
    AllSamples,
    GrowingSampling,
    MiniBatchSampling,
    Sampling,
    make_derivatives_sampling,
    make_hessian_sampling,
)
from hpctrain.objective import Objective, evaluate_point
from hpctrain.options import refuse_idle
from hpctrain.solvers.base import Record, Setting, Solver


class TrustRegionSolverOptions(NormedModelOptions):
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
    def _refuse_contradictions(self) -> "TrustRegionSolverOptions":
        if self.sampling != "exact" and self.batch_size is not None:
            raise ValueError(f'sampling = "{self.sampling}" draws from all samples, not batch_size')
        if self.sampling == "hessian" and self.model == "linear":
            raise ValueError('sampling = "hessian" samples B, which model = "linear" has not')
        if self.sampling == "exact":
            refuse_idle(self, {"sample_size": 'with sampling = "exact"'})
        if self.batch_size is None:
            refuse_idle(self, {"batch_overlap": "without batch_size"})
        return self


class TrustRegion(Solver[TrustRegionState]):
    """Single-level trust region on all parameters.

    Nominal costs count the gradients of L, those of a mini-batch as the part of it that it is.
    """

    names = ("trust-region",)
    Options = TrustRegionSolverOptions

    @classmethod
    def takes_batches(cls, options: TrustRegionSolverOptions) -> bool:
        return options.batch_size is not None

    def __init__(self, setting: Setting, options: TrustRegionSolverOptions) -> None:
        super().__init__(setting, options)
        L, o = setting.objective, options
        check_model(L, o)
        if o.sampling != "exact":
            _check_sample(L, o)
        self.batches = make_mini_batches(L, setting.seed, o.batch_size, o.batch_overlap)
        self.rule = make_rule(o)
        self.sampling = self._choose_sampling()

    def _choose_sampling(self) -> Sampling:
        L, seed, o = self.setting.objective, self.setting.seed, self.options
        match o.sampling:
            case "hessian":
                return make_hessian_sampling(L, seed, o.sample_size)
            case "derivatives":
                return make_derivatives_sampling(L, seed, o.sample_size)
            case "growing":
                return GrowingSampling(L, seed, o.sample_size, o.trust_region.radius)
        return AllSamples(L) if o.batch_size is None else MiniBatchSampling(L, self.batches)

    def init(self, theta: Tensor) -> TrustRegionState:
        o = self.options
        with self.setting.timer.phase("global"):
            point = evaluate_point(self.setting.objective, theta)
            return TrustRegionState(point, o.trust_region.radius, sample_size=o.sample_size)

    def renew(self, state: TrustRegionState) -> TrustRegionState:
        """The window is forgotten: its heights are of the old loss."""
        return replace(super().renew(state), window=[])

    def step(self, state: TrustRegionState) -> tuple[TrustRegionState, Record]:
        with self.setting.timer.phase("global"):
            functions = self.sampling.choose_functions(state)  # L, g and B of this step
            new = make_step(functions, state, self.rule, self.options.window)
            new = replace(new, sample_size=self.sampling.choose_next_size(new))
        return new, Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=new.step_length,
            nominal_gradient_evaluations=self.batches.fraction * new.gradients,
            update_cost=count_pairs(self.options.memory if self.rule.model.learns else 0),
            outcome=new.outcome,
            epoch=self.batches.count_epochs(new.iteration),
            ends_epoch=self.batches.ends_epoch(new.iteration),
        )

    def describe(self) -> list[str]:
        return [
            f"trust region, {self.rule.describe_model()}",
            self.sampling.describe(),
            self.rule.describe_control(),
            *describe_window(self.options.window),
        ]


def _check_sample(objective: Objective, options: TrustRegionSolverOptions) -> None:
    """Raises an InputError where the loss cannot be taken over such a sample."""
    if not objective.has_subsets:
        raise InputError(
            f'solver.sampling = "{options.sampling}": this problem\'s loss cannot be taken'
            ' over some of its samples; allowed is "exact"'
        )
    if options.sample_size > objective.samples:
        raise InputError(
            f"solver.sample_size = {options.sample_size} is not allowed: at most"
            f" {objective.samples}, the number of samples"
        )
