"""ASTROM: a trust-region method on two levels of samples, the coarse one as large as it must be.

    h¹(θ) = L¹(θ) + ⟨∇L(θ_k) - ∇L¹(θ_k), θ - θ_k⟩,   L¹ over D¹ ⊂ D, so that ∇h¹(θ_k) = ∇L(θ_k)

The coarse phase takes trust-region steps on h¹ with its exact Hessian, by Steihaug-Toint conjugate
gradients, of total length ‖s‖ ≤ Δ. Then

    ρ = (L(θ) - L(θ+s)) / (h¹(θ) - h¹(θ+s));   θ ← θ + s if ρ ≥ η₁;  else D¹ grows, nested

so that the method becomes the batch trust region when D¹ is D. After a refused step D¹ grows and Δ
stays; only where ρ is not positive Δ shrinks as well.

Where h¹ descends as L does (ρ is good) but has another minimiser, steps are accepted and converge
slowly. As an option, which is not a part of the published method, D¹ therefore grows after an
accepted step, too, if

    ‖∇L(θ+s) - ∇h¹(θ+s)‖ > κ ‖∇L(θ)‖,

since with these samples the gradient of L cannot fall below about κ times its norm.

Source: the adaptive sub-sampled trust-region method of Kopaničáková and Krause's multilevel talks;
trust-region control as in Gratton, Sartenaer, Toint, SIAM Journal on Optimization 19 (2008).
"""

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.sampling.subsets import count_share
from hpctrain.methods.trust_region.control import estimate_rounding, judge
from hpctrain.methods.trust_region.local_phase import Budget, Phase, run_local_phase
from hpctrain.methods.trust_region.models import HessianModel
from hpctrain.methods.trust_region.options import StepOptions
from hpctrain.methods.trust_region.sampled import Exact, TrustRegionState, make_step
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.objective import (
    Objective,
    Point,
    Smooth,
    complete_point,
    evaluate_point,
    make_consistent,
)
from hpctrain.options import refuse_idle
from hpctrain.solvers.base import Need, Record, Setting, Solver


class ASTROMOptions(StepOptions):
    """Settings of ASTROM."""

    name: Literal["astrom"] = "astrom"
    share: float = Field(0.1, gt=0, le=1, description="|D¹| / |D| at the start; 1 is batch TR")
    growth: float = Field(2.0, gt=1, description="factor of |D¹| after a refused step")
    coarse_steps: int = Field(1, ge=1, description="trust-region steps on h¹ an iteration")
    model_error: float | None = Field(
        None,
        gt=0,
        description="κ: |D¹| grows after an accepted step, too, where the gradient of h¹ at its"
        " end is wrong by more than this part of the last gradient's norm; by default never, as"
        " published",
    )

    @model_validator(mode="after")
    def _refuse_settings_of_samples(self) -> "ASTROMOptions":
        if self.share == 1:
            reason = "with share = 1, which takes all samples"
            refuse_idle(self, dict.fromkeys(["growth", "coarse_steps", "model_error"], reason))
        return self


@dataclass
class ASTROMState:
    """θ, Δ, |D¹|, and the work so far in the units of the published tables.

    Attributes:
        hessians: Hessians made, in parts of the full one.
        cg: conjugate gradient iterations, each counted as one whatever the samples.
        shared_cg: the same, each weighted with |D¹| / |D|.
    """

    point: Point
    radius: float
    samples: int
    hessians: float = 0.0
    cg: int = 0
    shared_cg: float = 0.0


class ASTROM(Solver[ASTROMState]):
    """One iteration is one coarse phase and its control by the full loss."""

    names = ("astrom",)
    Options = ASTROMOptions
    needs = frozenset({Need.SUBSETS})

    columns = ("samples", "hessian_evaluations", "cg_iterations", "shared_cg_iterations")

    def __init__(self, setting: Setting, options: ASTROMOptions) -> None:
        super().__init__(setting, options)
        o, samples = options, setting.objective.samples
        self.rule = TrialRule(HessianModel(), o.trust_region, 2, o.cg_iterations, o.debug)
        self._order = to_tensor(make_generator(setting.seed, "nested samples").permutation(samples))
        self._coarse: tuple[int, Objective] | None = None

    def init(self, theta: Tensor) -> ASTROMState:
        L, o = self.setting.objective, self.options
        with self.setting.timer.phase("global"):
            point = evaluate_point(L, theta)
        return ASTROMState(point, o.trust_region.radius, count_share(o.share, L.samples))

    def step(self, state: ASTROMState) -> tuple[ASTROMState, Record]:
        counts, samples = self.setting.counts, self.setting.objective.samples
        spent, products = counts.effective_evaluations, counts.hvp_evaluations
        with self.setting.timer.phase("global"):
            if state.samples == samples:
                new, outcome, hessians = self._make_batch_step(state)
            else:
                h, start = self.make_model(state)
                coarse = self.run_coarse_phase(h, start, state.radius)
                new, outcome = self._control(state, start, coarse)
                hessians = coarse.trials
        part = state.samples / samples
        # A product counts as two gradients.
        shared = 0.5 * (counts.hvp_evaluations - products)
        new = replace(
            new,
            hessians=state.hessians + part * hessians,
            cg=state.cg + round(shared / part),
            shared_cg=state.shared_cg + shared,
        )
        return new, self._record(state, new, outcome, counts.effective_evaluations - spent)

    def make_model(self, state: ASTROMState) -> tuple[Smooth, Point]:
        """h¹, and where it starts: θ_k with h¹(θ_k) and ∇h¹(θ_k) = ∇L(θ_k)."""
        L, old = self.setting.objective, state.point
        if self._coarse is None or self._coarse[0] != state.samples:
            chosen = self._order[: state.samples].sort().values
            self._coarse = state.samples, L.subset(chosen)
        return make_consistent(self._coarse[1], old.gradient, old.theta)

    def run_coarse_phase(self, h: Smooth, start: Point, radius: float) -> Phase:
        """Trust-region steps on h¹ with ‖s‖ ≤ Δ."""
        steps, budget = self.options.coarse_steps, Budget(radius)
        return run_local_phase(h, start, radius, LSR1(), steps, budget, self.rule)

    def _control(
        self, state: ASTROMState, start: Point, coarse: Phase
    ) -> tuple[ASTROMState, Outcome]:
        """Takes s, or refuses it and lets D¹ grow, by ρ; D¹ also grows where ∇h¹ was wrong."""
        L, old, end = self.setting.objective, state.point, coarse.point
        s = end.theta - old.theta
        size, rounding = norm(s), estimate_rounding(old.loss, s.dtype)
        if size == 0 and coarse.outcome.is_final:  # h¹ has nothing left to find
            return replace(state, samples=self._grow(state)), Outcome.SAMPLES_EXHAUSTED
        if size == 0:
            return replace(state, radius=coarse.radius), Outcome.REFUSED
        trial = L.evaluate(end.theta)
        predicted = start.loss - end.loss
        verdict = judge(
            old.loss, trial.loss, predicted, state.radius, size, rounding, self.rule.control
        )
        if not verdict.accepted:
            radius = state.radius if verdict.ratio > 0 else verdict.radius
            grown = self._grow(state)
            return replace(state, radius=radius, samples=grown), Outcome.SAMPLES_MISLED
        point, kappa, samples = complete_point(trial), self.options.model_error, state.samples
        if kappa is not None and norm(point.gradient - end.gradient) > kappa * norm(old.gradient):
            samples = self._grow(state)
        return replace(state, point=point, radius=verdict.radius, samples=samples), Outcome.ACCEPTED

    def _make_batch_step(self, state: ASTROMState) -> tuple[ASTROMState, Outcome, int]:
        """A step of the batch trust region, h¹ being L; it makes one Hessian."""
        L = self.setting.objective
        end = make_step(Exact(L), TrustRegionState(state.point, state.radius), self.rule)
        return replace(state, point=end.point, radius=end.radius), end.outcome, 1

    def _grow(self, state: ASTROMState) -> int:
        """The next larger |D¹|."""
        grown = max(round(self.options.growth * state.samples), state.samples + 1)
        return min(grown, self.setting.objective.samples)

    def _record(
        self, old: ASTROMState, new: ASTROMState, outcome: Outcome, evaluations: float
    ) -> Record:
        work = (float(new.samples), new.hessians, float(new.cg), new.shared_cg)
        return Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=norm(new.point.theta - old.point.theta),
            nominal_gradient_evaluations=evaluations,
            update_cost=1,
            outcome=outcome,
            details=dict(zip(self.columns, work, strict=True)),
        )

    def describe(self) -> list[str]:
        o, samples = self.options, self.setting.objective.samples
        size = count_share(o.share, samples)
        also = f" or a model error above {o.model_error:g}" if o.model_error else ""
        return [
            f"adaptive sub-sampled trust region, {size} of {samples} samples at first,"
            f" x {o.growth:g} after a refused step{also}",
            f"{o.coarse_steps} coarse step(s), {self.rule.describe_model()}",
            self.rule.describe_control(),
        ]
