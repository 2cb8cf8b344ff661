"""ASTROM: a trust-region method on two levels of samples, the coarse one as large as it must be.

    h¹(θ) = L¹(θ) + ⟨∇L(θ_k) - ∇L¹(θ_k), θ - θ_k⟩,   L¹ over D¹ ⊂ D, so that ∇h¹(θ_k) = ∇L(θ_k)

The coarse phase takes trust-region steps on h¹ with its exact Hessian, by Steihaug-Toint conjugate
gradients, of total length ‖s‖ ≤ Δ. Then

    ρ = (L(θ) - L(θ+s)) / (h¹(θ) - h¹(θ+s));   θ ← θ + s if ρ ≥ η₁;  else D¹ grows, nested

so that the method becomes the batch trust region when D¹ is D. A rejection is blamed on the samples
and keeps the radius; only where ρ is not positive the radius shrinks as well.

Where h¹ descends as L does (ρ is good) but its minimiser is not L's, steps are accepted and
contract slowly. D¹ therefore grows after an accepted step, too, if

    ‖∇L(θ+s) - ∇h¹(θ+s)‖ > κ ‖∇L(θ)‖,

by which the gradient of L cannot fall below about κ times its norm with these samples. The test is
not a part of the published method; a large κ switches it off.

Source: the adaptive sub-sampled trust-region method of Kopaničáková and Krause's multilevel talks;
trust-region control as in Gratton, Sartenaer, Toint, SIAM Journal on Optimization 19 (2008).
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import generator
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.sampling.subsets import share_size
from hpctrain.methods.trust_region.control import judge, rounding_error
from hpctrain.methods.trust_region.step import (
    ModelOptions,
    attempt_step,
    curvature,
    described_region,
)
from hpctrain.objective import Objective, Point, Smooth, consistent, evaluate, point_of
from hpctrain.solvers.base import Need, Record, Setting, Solver


class ASTROMOptions(ModelOptions):
    """Settings of ASTROM."""

    name: Literal["astrom"] = "astrom"
    model: Literal["hessian"] = Field("hessian", description="of h¹: its exact Hessian")
    share: float = Field(0.1, gt=0, le=1, description="|D¹| / |D| at the start; 1 is batch TR")
    growth: float = Field(2.0, gt=1, description="factor of |D¹| after a rejection")
    coarse_steps: int = Field(1, ge=1, description="trust-region steps on h¹ an iteration")
    model_error: float = Field(
        0.1,
        gt=0,
        description="κ: |D¹| grows after an accepted step, too, where the gradient of h¹ at its"
        " end is wrong by more than this part of the last gradient's norm; 1e9: never",
    )


@dataclass
class ASTROMState:
    """θ, Δ, |D¹|, and the work so far in the units of the published tables.

    Attributes:
        hessians: Hessians made, in parts of the full one.
        cg: conjugate gradient iterations, each of them one whatever the samples.
        shared_cg: the same, each weighted with |D¹| / |D|.
    """

    point: Point
    radius: float
    samples: int
    hessians: float = 0.0
    cg: int = 0
    shared_cg: float = 0.0


@dataclass(frozen=True)
class _Coarse:
    """Where the coarse phase ended: θ with h¹ and ∇h¹, and what led there."""

    point: Point
    decrease: float
    radius: float
    steps: int
    outcome: Outcome


class ASTROM(Solver[ASTROMState]):
    """One iteration is one coarse phase and its control by the full loss."""

    names = ("astrom",)
    Options = ASTROMOptions
    needs = frozenset({Need.SUBSETS})

    columns = ("samples", "hessian_evaluations", "cg_iterations", "shared_cg_iterations")

    def __init__(self, setting: Setting, options: ASTROMOptions) -> None:
        super().__init__(setting, options)
        order = generator(setting.seed, "nested samples").permutation(setting.objective.samples)
        self._order = to_tensor(order)
        self._coarse: tuple[int, Objective] | None = None

    def init(self, theta: Tensor) -> ASTROMState:
        L, o = self.setting.objective, self.options
        with self.setting.timer.phase("global"):
            point = evaluate(L, theta)
        return ASTROMState(point, o.trust_region.radius, share_size(o.share, L.samples))

    def step(self, state: ASTROMState) -> tuple[ASTROMState, Record]:
        counts = self.setting.counts
        before, products = counts.effective_evaluations, counts.hvp_evaluations
        with self.setting.timer.phase("global"):
            new, steps, outcome = self._step(state)
        part = state.samples / self.setting.objective.samples
        # A product counts as two gradients.
        shared = 0.5 * (counts.hvp_evaluations - products)
        new.hessians = state.hessians + part * steps
        new.cg = state.cg + round(shared / part)
        new.shared_cg = state.shared_cg + shared
        return new, Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=norm(new.point.theta - state.point.theta),
            nominal_gradient_evaluations=counts.effective_evaluations - before,
            update_cost=1,
            outcome=outcome,
            details=dict(
                zip(
                    self.columns,
                    (float(new.samples), new.hessians, float(new.cg), new.shared_cg),
                    strict=True,
                )
            ),
        )

    def _step(self, state: ASTROMState) -> tuple[ASTROMState, int, Outcome]:
        """The new state, how many Hessians the coarse phase took, and the outcome."""
        L, o, old = self.setting.objective, self.options.trust_region, state.point
        if state.samples == L.samples:
            return self._batch_step(state)
        h, start = self._model(state)
        coarse = self._coarse_phase(h, start, state.radius)
        s = coarse.point.theta - old.theta
        length, rounding = norm(s), rounding_error(old.loss, s.dtype)
        if not length:  # no decrease of h¹ was found
            if coarse.outcome.is_final:
                grown = self._rejected(state, state.radius)
                return grown, coarse.steps, Outcome.SAMPLES_EXHAUSTED
            return ASTROMState(old, coarse.radius, state.samples), coarse.steps, Outcome.REFUSED
        trial = L.at(coarse.point.theta)
        found = judge(old.loss, trial.loss, coarse.decrease, state.radius, length, rounding, o)
        if found.accepted:
            new = point_of(trial)
            error = norm(new.gradient - coarse.point.gradient)
            poor = error > self.options.model_error * norm(old.gradient)
            samples = self._grown(state) if poor else state.samples
            return ASTROMState(new, found.radius, samples), coarse.steps, Outcome.ACCEPTED
        radius = state.radius if found.ratio > 0 else found.radius
        return self._rejected(state, radius), coarse.steps, Outcome.REFUSED

    def _batch_step(self, state: ASTROMState) -> tuple[ASTROMState, int, Outcome]:
        """A step of the batch trust region, h¹ being L."""
        L, old = self.setting.objective, state.point
        B = curvature(L, old.theta, LSR1(), self.options)
        tried = attempt_step(L, old, B, state.radius, self.options, False)
        point = point_of(tried.trial) if tried.accepted else old
        return ASTROMState(point, tried.radius, state.samples), 1, tried.outcome

    def _rejected(self, state: ASTROMState, radius: float) -> ASTROMState:
        return ASTROMState(state.point, radius, self._grown(state))

    def _grown(self, state: ASTROMState) -> int:
        """The next |D¹|."""
        grown = max(round(self.options.growth * state.samples), state.samples + 1)
        return min(grown, self.setting.objective.samples)

    def _model(self, state: ASTROMState) -> tuple[Smooth, Point]:
        """h¹, and where it starts: θ_k with h¹(θ_k) and ∇h¹(θ_k) = ∇L(θ_k)."""
        L, old = self.setting.objective, state.point
        if self._coarse is None or self._coarse[0] != state.samples:
            chosen = self._order[: state.samples].sort().values
            self._coarse = state.samples, L.subset(chosen)
        return consistent(self._coarse[1], old.gradient, old.theta)

    def _coarse_phase(self, h: Smooth, start: Point, radius: float) -> _Coarse:
        """Trust-region steps on h, which together stay within the radius."""
        point, inner, steps, outcome = start, radius, 0, Outcome.ACCEPTED
        for step in range(self.options.coarse_steps):
            room = radius - norm(point.theta - start.theta)
            if step and (room <= 0 or norm(point.gradient) == 0):
                break
            B = curvature(h, point.theta, LSR1(), self.options)
            tried = attempt_step(h, point, B, min(inner, room), self.options, True)
            steps += 1
            inner, outcome = tried.radius, tried.outcome
            if tried.accepted:
                point = point_of(tried.trial)
        return _Coarse(point, start.loss - point.loss, inner, steps, outcome)

    def describe(self) -> list[str]:
        o, samples = self.options, self.setting.objective.samples
        size = share_size(o.share, samples)
        return [
            f"adaptive sub-sampled trust region, {size} of {samples} samples at first,"
            f" x {o.growth:g} after a rejection or a model error above {o.model_error:g}",
            f"{o.coarse_steps} coarse step(s) with the exact Hessian, at most {o.cg_iterations}"
            " conjugate gradients",
            *described_region(o),
        ]
