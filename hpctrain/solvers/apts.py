"""APTS, the additively preconditioned trust-region strategy: what its variants have in common.

Subdomains p = 1 … N each have a local objective h_p, first-order consistent with the global one,
∇h_p(θ_k) = ∇L(θ_k) in the subdomain's variables. Outer iteration k, L over all samples or over the
iteration's mini-batch:

    1. local phase       s_p: a few trust-region steps on h_p from θ_k; ‖s_p‖ within a budget that
                         keeps ‖Σ_p s_p‖ ≤ Δ
    2. trial             s = Σ_p s_p,  predicted = Σ_p (h_p(θ_k) - h_p(θ_k + s_p))
    3. forced decrease   as an option: while L(θ_k + s) > L(θ_k), shrink s and turn it towards -g,
                         up to five times; what lowers L is taken, and Δ ← ½ Δ
    4. global control    ρ = (L(θ_k) - L(θ_k + s)) / predicted;  θ ← θ_k + s if ρ ≥ η₁, else
                         Δ ← ½ Δ;  Δ ← 2 Δ if ρ > η₂
    5. global step       one trust-region step on L from there, within a radius of its own; the B of
                         its model learns from the trial too

Each radius follows the steps that it bounds: with one radius for both, the steps of 5 would hold
back those of 1. A subdomain keeps the radius of its steps and its secant pairs from one local phase
to the next.

Without global control step 4 takes every finite trial and keeps Δ. A subdomain without a finite
trial contributes nothing. With mini-batches L in ρ is that of the mini-batch, and a nonmonotone
acceptance adds up the decreases of its last steps, each on the mini-batch of that step. With
momentum μ > 0 the trial is s = Σ_p s_p + μ v, shortened to Δ, where v is the last trial taken.

Sources: Groß and Krause, ICS preprint 2009; Trotti, Cruz, Kopaničáková, Krause, arXiv 2312.13677
(in weights, forced decrease); Cruz, Kothari, Kopaničáková, Krause, arXiv 2502.05133; nonmonotone:
Angino et al., arXiv 2605.14860.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.quasi_newton.update_cost import count_pairs
from hpctrain.methods.sampling.mini_batches import make_mini_batches
from hpctrain.methods.trust_region.control import slide_window
from hpctrain.methods.trust_region.options import (
    NormedModelOptions,
    check_model,
    describe_window,
    make_rule,
)
from hpctrain.methods.trust_region.subdomains import (
    LocalMemory,
    LocalPhases,
    LocalResult,
    Subdomains,
)
from hpctrain.methods.trust_region.subproblem import length
from hpctrain.methods.trust_region.trials import (
    ForcedDecrease,
    NoTrialControl,
    RatioControl,
    Trial,
    leave_trial,
    shorten,
)
from hpctrain.objective import Evaluation, Objective, Point, evaluate_point
from hpctrain.options import refuse_idle
from hpctrain.solvers.base import Record, Setting, Solver
from hpctrain.store.state import BlockStates


class APTSOptions(NormedModelOptions):
    """Settings that APTS in data and in weights share."""

    memory: int = Field(5, ge=1, description="secant pairs kept, m (lsr1), globally and locally")
    local_steps: int = Field(5, ge=1, description="trust-region steps of a local phase, at most")
    local_radius: float = Field(
        0.5, gt=0, le=1, description="most of a local phase's first step, as part of its budget"
    )
    global_control: bool = Field(True, description="take a trial by its ratio only")
    global_steps: int = Field(1, ge=0, description="global trust-region steps after the trial")
    forced_decrease: bool = Field(
        False, description="shorten a trial that raises the loss and turn it towards -g"
    )
    momentum: float = Field(
        0.0, ge=0, lt=1, description="μ, part of the last trial that is added to the next"
    )
    batch_size: int | None = Field(
        None, ge=1, description="samples of a mini-batch; by default all samples"
    )
    batch_overlap: float = Field(
        0.0, ge=0, lt=100, description="percent of the other samples that a mini-batch draws too"
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "APTSOptions":
        if self.forced_decrease and self.window > 1:
            raise ValueError("forced_decrease allows no increase of the loss, window > 1 does")
        if not self.global_control and self.global_steps == 0:
            refuse_idle(self, {"window": "without global_control and global_steps"})
        if self.batch_size is None:
            refuse_idle(self, {"batch_overlap": "without batch_size"})
        return self


@dataclass
class APTSState:
    """θ, the radius Δ, and what the models remember.

    Attributes:
        point: with mini-batches its loss is that of the last mini-batch, its gradient the last one
            that was evaluated on the way there.
        radius: Δ; `global_radius` that of step 5.
        memory: of the global model; `local_memory` of the subdomains that this rank works on.
        velocity: v (n,), the last trial taken; None without momentum.
        window: how far the losses of the last W - 1 points lie above the present one.
        iteration: outer iterations so far.
        silent: subdomains that had no finite trial in the last iteration.
        accepted: whether the trial of the last iteration was taken.
    """

    point: Point
    radius: float
    global_radius: float
    memory: LSR1 = field(default_factory=LSR1)
    local_memory: BlockStates[LocalMemory] = field(default_factory=BlockStates)
    velocity: Tensor | None = None
    window: list[float] = field(default_factory=list)
    iteration: int = 0
    silent: int = 0
    accepted: bool = False


class APTS(Solver[APTSState]):
    """The algorithm, on the subdomains that a variant gives it.

    Nominal costs count gradients as if all subdomains worked at once: one for each local step, for
    the trial and for each global step, and with mini-batches one for ∇L(θ_k), in proportion to the
    batch, all with what overlaps. Updates of L-SR1 likewise, a subdomain's in proportion to its
    variables.
    """

    columns = ("radius", "trial_accepted")

    @classmethod
    def takes_batches(cls, options: APTSOptions) -> bool:
        return options.batch_size is not None

    def __init__(self, setting: Setting, options: APTSOptions, subdomains: Subdomains) -> None:
        super().__init__(setting, options)
        check_model(setting.objective, options)
        o, region = options, options.trust_region
        self.batches = make_mini_batches(
            setting.objective, setting.seed, o.batch_size, o.batch_overlap
        )
        self.subdomains = subdomains
        self.rule = make_rule(o)
        self.local_phases = LocalPhases(self.rule, o.local_steps, o.local_radius)
        self.force = ForcedDecrease(region.shrink, o.norm) if o.forced_decrease else leave_trial
        self.control = RatioControl(region) if o.global_control else NoTrialControl(region)

    @property
    def led(self) -> list[int]:
        return self.subdomains.groups.led

    def init(self, theta: Tensor) -> APTSState:
        radius = self.options.trust_region.radius
        with self.setting.timer.phase("global"):
            point = evaluate_point(self.batches.make_objective(self.setting.objective, 0), theta)
        return APTSState(
            point,
            radius,
            radius,
            local_memory=self.local_phases.init_memory(self.subdomains, radius),
            velocity=torch.zeros_like(theta) if self.options.momentum else None,
        )

    def renew(self, state: APTSState) -> APTSState:
        """The window is forgotten: its heights are of the old loss."""
        return replace(super().renew(state), window=[])

    def step(self, state: APTSState) -> tuple[APTSState, Record]:
        timer, subdomains = self.setting.timer, self.subdomains
        with timer.phase("global"):
            chosen = self.batches.choose(state.iteration)
            L, point = self._start_iteration(state, chosen)
        with timer.phase("local"):
            solved, memories = self.local_phases.solve(  # 1
                subdomains, L, chosen, point, state.radius, state.local_memory
            )
        results = self.local_phases.exchange(subdomains, solved, self.setting.counts, point)
        with timer.phase("global"):
            trial = self._add_steps(L, point, state, results)  # 2
            trial = self.force(L, point, trial, state.radius)  # 3
            decision = self.control.decide(point, trial, state.radius, state.window)  # 4
            new = replace(
                self._learn_from_trial(state, point, trial, decision.accepted),
                radius=decision.radius,
                local_memory=memories,
                iteration=state.iteration + 1,
                silent=sum(not result.finite for result in results),
            )
            new, outcome = self._make_global_steps(L, new, decision.outcome)  # 5
        return new, self._record(
            state.point, new, outcome if chosen is None else outcome.take_samples()
        )

    def _start_iteration(self, state: APTSState, chosen: Tensor | None) -> tuple[Objective, Point]:
        """L over the samples of the iteration, and θ_k with L(θ_k) and ∇L(θ_k)."""
        if chosen is None:
            return self.setting.objective, state.point
        L = self.setting.objective.subset(chosen)
        return L, evaluate_point(L, state.point.theta) if state.iteration else state.point

    def _add_steps(
        self, L: Objective, point: Point, state: APTSState, results: Sequence[LocalResult]
    ) -> Trial:
        """s = Σ_p s_p (+ μ v), the sum of the decreases, and L(θ_k + s)."""
        predicted = math.fsum(result.decrease for result in results)
        s = self.subdomains.add([result.step for result in results])
        if state.velocity is not None:
            s = shorten(s + self.options.momentum * state.velocity, state.radius, self.rule.norm)
        self.rule.check_bound(s, state.radius)
        if not predicted > 0:
            return Trial(s, predicted, None)
        needed = self._needs_gradient(last=self.options.global_steps == 0)
        evaluate_at = self.rule.model.choose_evaluation(L, needed)
        return Trial(s, predicted, evaluate_at(point.theta + s))

    def _learn_from_trial(
        self, state: APTSState, point: Point, trial: Trial, accepted: bool
    ) -> APTSState:
        """The global model after the trial, and the point that it leads to if it is taken."""
        found, memory = trial.evaluation, state.memory
        if found is not None:
            memory = self.rule.model.learn(
                memory, trial.step, lambda: found.evaluate_gradient() - point.gradient
            )
        if found is None or not accepted:
            return replace(state, point=point, memory=memory, accepted=False)
        return replace(
            state,
            point=self._move(found, point, last=self.options.global_steps == 0),
            memory=memory,
            velocity=None if state.velocity is None else trial.step,
            window=slide_window(state.window, point.loss - found.loss, self.options.window),
            accepted=True,
        )

    def _make_global_steps(
        self, L: Objective, state: APTSState, outcome: Outcome
    ) -> tuple[APTSState, Outcome]:
        """The global steps, and the outcome of the trial and of all of them together."""
        for left in reversed(range(self.options.global_steps)):
            state, own = self._make_global_step(L, state, last=left == 0)
            if outcome.is_final or own is Outcome.ACCEPTED:
                outcome = own
        return state, outcome

    def _make_global_step(
        self, L: Objective, state: APTSState, last: bool
    ) -> tuple[APTSState, Outcome]:
        point, model = state.point, self.rule.model
        B = model.make_curvature(L, point.theta, state.memory)
        evaluate_at = model.choose_evaluation(L, self._needs_gradient(last))
        tried = self.rule.attempt(evaluate_at, point, B, state.global_radius, state.window)
        memory = model.learn(
            state.memory, tried.step, lambda: tried.trial.evaluate_gradient() - point.gradient
        )
        new = replace(state, global_radius=tried.radius, memory=memory)
        if not tried.accepted:
            return new, tried.outcome
        window = slide_window(state.window, point.loss - tried.trial.loss, self.options.window)
        return replace(
            new, point=self._move(tried.trial, point, last), window=window
        ), tried.outcome

    def _needs_gradient(self, last: bool) -> bool:
        """Whether the method goes on from a trial that is taken, by its gradient.

        The next mini-batch has a gradient of its own, so that of the last trial is not needed.
        """
        return self.options.batch_size is None or not last

    def _move(self, trial: Evaluation, before: Point, last: bool) -> Point:
        known = self.rule.model.learns or self._needs_gradient(last)
        return Point(
            trial.theta, trial.loss, trial.evaluate_gradient() if known else before.gradient
        )

    def _record(self, old: Point, new: APTSState, outcome: Outcome) -> Record:
        o, L = self.options, self.setting.objective
        first = 0 if o.batch_size is None else 1
        gradients = first + o.local_steps * self.subdomains.local_gradients + 1 + o.global_steps
        updates = 1 + o.global_steps + o.local_steps * max(self.subdomains.sizes) / L.parameters
        return Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=length(new.point.theta - old.theta, self.rule.norm),
            nominal_gradient_evaluations=self.batches.fraction * gradients,
            update_cost=count_pairs(o.memory if self.rule.model.learns else 0) * updates,
            outcome=outcome,
            epoch=self.batches.count_epochs(new.iteration),
            ends_epoch=self.batches.ends_epoch(new.iteration),
            details={"radius": new.radius, "trial_accepted": float(new.accepted)},
        )

    def describe(self) -> list[str]:
        o, model = self.options, self.rule.describe_model()
        forced = ", decrease forced" if o.forced_decrease else ""
        momentum = f", momentum {o.momentum:g}" if o.momentum else ""
        return [
            f"{o.name}: {self.subdomains.describe()}",
            f"local: at most {o.local_steps} trust-region steps, {model}",
            f"trial: the sum of all steps, {self.control.describe()}{forced}{momentum}",
            f"then {o.global_steps} global steps, {model}",
            self.rule.describe_control(),
            *describe_window(o.window),
            self.batches.describe(),
        ]
