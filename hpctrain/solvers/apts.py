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

Each radius follows the steps that it bounds: one for both would be held back by what the single
step of 5 can do. A subdomain keeps the radius of its steps and its secant pairs between local
phases.

Without global control every finite trial is taken and Δ stays in step 4. A subdomain without a
finite trial contributes nothing. With mini-batches L in ρ is that of the batch, and a nonmonotone
acceptance adds up the decreases of its last steps, each by the batch of that step.

With momentum μ > 0 the trial is s = Σ_p s_p + μ v, shortened to Δ, v the last trial taken.

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

from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.groups import Groups
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.sampling.mini_batches import mini_batches
from hpctrain.methods.trust_region.control import judge, reference_loss, rounding_error, slid
from hpctrain.methods.trust_region.local_phase import (
    LocalMemory,
    LocalResult,
    exchange,
    local_phase,
)
from hpctrain.methods.trust_region.step import (
    ModelOptions,
    attempt_step,
    check_bound,
    check_model,
    curvature,
    described_model,
    described_region,
    learnt,
)
from hpctrain.methods.trust_region.subproblem import Norm, length, steepest_descent
from hpctrain.objective import Counts, Evaluation, Objective, Point, Smooth, evaluate
from hpctrain.solvers.base import Record, Setting, Solver
from hpctrain.store.state import BlockStates

# Trials of a forced decrease; the last one is along -g alone.
FORCED_TRIALS = 5


class APTSOptions(ModelOptions):
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
    def _settings_agree(self) -> "APTSOptions":
        if self.forced_decrease and self.window > 1:
            raise ValueError("forced_decrease allows no increase of the loss, window > 1 does")
        return self


@dataclass
class APTSState:
    """θ, the radius Δ, and what the models remember.

    Attributes:
        point: with mini-batches its loss is that of the last batch, its gradient the last one that
            was evaluated on the way there.
        radius: Δ; `global_radius` that of step 5.
        memory: of the global model; `local_memory` of the subdomains' that this rank works on.
        velocity: v, the last trial taken, None without momentum.
        window: how far the last W - 1 points lie above the present one, by `slid`.
        iteration: outer iterations so far.
        silent: subdomains that had no finite trial in the last one.
        accepted: whether its trial was taken.
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


@dataclass(frozen=True)
class Trial:
    """s (n,), the predicted decrease, and L at θ_k + s, not evaluated where nothing moved.

    `forced`: s is no more the sum of the steps.
    """

    step: Tensor
    predicted: float
    evaluation: Evaluation | None
    forced: bool = False


@dataclass(frozen=True)
class LocalProblem:
    """h_p, the point θ_k in the subdomain's variables, and where the work on it is counted."""

    objective: Smooth
    start: Point
    counts: Counts


class APTS(Solver[APTSState]):
    """All but the subdomains and their local objectives, which each variant has its own of.

    Nominal costs count gradients as if all subdomains worked at once: one for each local step, for
    the trial and for each global step, and with mini-batches one for ∇L(θ_k), in proportion to the
    batch. Updates of L-SR1 likewise, a subdomain's in proportion to its variables.
    """

    columns = ("radius", "trial_accepted")

    def __init__(
        self,
        setting: Setting,
        options: APTSOptions,
        groups: Groups,
        sizes: Sequence[int],
    ) -> None:
        super().__init__(setting, options)
        check_model(setting.objective, options)
        self._batches = mini_batches(
            setting.objective, setting.seed, options.batch_size, options.batch_overlap
        )
        self._learns = options.model == "lsr1"
        self._groups, self._sizes = groups, sizes

    def _solved_here(self) -> Sequence[int]:
        """The subdomains that this rank works on, in order."""
        raise NotImplementedError

    def _local_problem(
        self, p: int, L: Objective, chosen: Tensor | None, point: Point
    ) -> LocalProblem | None:
        """Step 1's h_p at θ_k, of a mini-batch's `chosen` samples; None without any of them."""
        raise NotImplementedError

    def _budget(self, radius: float) -> float:
        """Of each ‖s_p‖, so that ‖Σ_p s_p‖ ≤ Δ."""
        raise NotImplementedError

    def _sum(self, steps: Sequence[Tensor]) -> Tensor:
        """Σ_p s_p (n,), added in the order of the subdomains."""
        raise NotImplementedError

    def init(self, theta: Tensor) -> APTSState:
        o = self.options
        with self.setting.timer.phase("global"):
            point = evaluate(self._batches.objective(self.setting.objective, 0), theta)
        radius = o.trust_region.radius
        budget = self._budget(radius)
        return APTSState(
            point,
            radius,
            radius,
            local_memory=BlockStates({p: LocalMemory(budget, LSR1()) for p in self._solved_here()}),
            velocity=torch.zeros_like(theta) if o.momentum else None,
        )

    def step(self, state: APTSState) -> tuple[APTSState, Record]:
        o, timer = self.options, self.setting.timer
        with timer.phase("global"):
            chosen = self._batches.chosen(state.iteration)
            L = self.setting.objective if chosen is None else self.setting.objective.subset(chosen)
            point = state.point
            if chosen is not None and state.iteration > 0:
                point = evaluate(L, point.theta)
        with timer.phase("local"):
            solved, memories = self._local_phase(L, chosen, point, state)
        results = self._exchange(solved)
        with timer.phase("global"):
            new = replace(state, point=point, local_memory=memories, iteration=state.iteration + 1)
            new.silent = sum(not result.finite for result in results)
            trial = self._trial(L, new, results)
            new = self._controlled(L, new, trial)
            foreseen = trial.predicted > rounding_error(point.loss, point.theta.dtype)
            at_end = not new.accepted and state.radius <= o.trust_region.min_radius
            outcome = Outcome.ACCEPTED if new.accepted else Outcome.REFUSED
            if not foreseen or at_end:
                outcome = Outcome.LEAST_RADIUS if foreseen else Outcome.NO_DECREASE_FORESEEN
            for left in reversed(range(o.global_steps)):
                new, stepped = self._global_step(L, new, last=left == 0)
                if outcome.is_final or stepped is Outcome.ACCEPTED:
                    outcome = stepped
        return new, self._record(
            state.point, new, outcome if chosen is None else outcome.of_samples()
        )

    def _local_phase(
        self, L: Objective, chosen: Tensor | None, point: Point, state: APTSState
    ) -> tuple[dict[int, tuple[LocalResult, Counts]], BlockStates[LocalMemory]]:
        """Step 1 for this rank's subdomains: s_p with the work, and their memories."""
        o, budget = self.options, self._budget(state.radius)
        solved, memories = {}, BlockStates(state.local_memory)
        for p in self._solved_here():
            local = self._local_problem(p, L, chosen, point)
            if local is None:
                nothing = LocalResult(point.theta.new_zeros(self._sizes[p]), 0.0, False)
                solved[p] = nothing, Counts(1, 1)
                continue
            result, memories[p] = local_phase(
                local.objective,
                local.start,
                budget,
                o.local_radius,
                o.local_steps,
                state.local_memory[p],
                o,
            )
            solved[p] = result, local.counts
        return solved, memories

    @property
    def led(self) -> list[int]:
        return self._groups.led

    def _exchange(self, solved: dict[int, tuple[LocalResult, Counts]]) -> list[LocalResult]:
        dtype = self.setting.objective.dtype
        return exchange(self._groups, self._sizes, solved, self.setting.counts, dtype)

    def _trial(self, L: Objective, state: APTSState, results: Sequence[LocalResult]) -> Trial:
        """Steps 2 and 3."""
        o, point, radius = self.options, state.point, state.radius
        predicted = math.fsum(result.decrease for result in results)
        s = self._sum([result.step for result in results])
        if state.velocity is not None:
            s = _within(s + o.momentum * state.velocity, radius, o.trust_region.norm)
        if o.debug:
            check_bound(length(s, o.trust_region.norm), radius, s.dtype)
        if not predicted > 0:
            return Trial(s, predicted, None)
        evaluate_at = L.with_gradient if self._goes_on(last=o.global_steps == 0) else L.at
        trial = Trial(s, predicted, evaluate_at(point.theta + s))
        return self._forced(L, state, trial) if o.forced_decrease else trial

    def _forced(self, L: Objective, state: APTSState, trial: Trial) -> Trial:
        """Step 3: s_j = (1 - j/5) c s + (j/5) c Δ d, c = ½ʲ, d of steepest descent, ‖d‖ = 1."""
        point, o, s = state.point, self.options.trust_region, trial.step
        for j in range(1, FORCED_TRIALS + 1):
            if trial.evaluation is not None and trial.evaluation.loss <= point.loss:
                break
            c, weight = o.shrink**j, j / FORCED_TRIALS
            descent = steepest_descent(point.gradient, c * state.radius, o.norm)
            step = (1 - weight) * c * s + weight * descent
            trial = Trial(step, -dot(point.gradient, step), L.at(point.theta + step), forced=True)
        return trial

    def _controlled(self, L: Objective, state: APTSState, trial: Trial) -> APTSState:
        """Step 4; a trial that nothing contributed to is rejected.

        Where the gradient is zero nothing could contribute, which says nothing of Δ.
        """
        o, t, point, found = self.options, self.options.trust_region, state.point, trial.evaluation
        shrunk = max(t.shrink * state.radius, t.min_radius) if o.global_control else state.radius
        if found is None:
            radius = state.radius if norm(point.gradient) == 0 else shrunk
            return replace(state, radius=radius, accepted=False)
        accepted, radius = math.isfinite(found.loss), state.radius
        if trial.forced:
            accepted, radius = found.loss < point.loss, shrunk
        elif o.global_control:
            reference = reference_loss(state.window, point.loss)
            rounding = rounding_error(point.loss, point.theta.dtype)
            # The radius follows the ratio alone: a sum of steps seldom reaches the boundary.
            verdict = judge(
                point.loss, found.loss, trial.predicted, radius, radius, rounding, t, reference
            )
            accepted, radius = verdict.accepted, verdict.radius
        memory = state.memory
        if self._learns:
            memory = learnt(memory, trial.step, found.evaluate_gradient() - point.gradient, o)
        if not accepted:
            return replace(state, radius=radius, memory=memory, accepted=False)
        return replace(
            state,
            point=self._reached(found, point, last=o.global_steps == 0),
            radius=radius,
            memory=memory,
            velocity=None if state.velocity is None else trial.step,
            window=slid(state.window, point.loss - found.loss, o.window),
            accepted=True,
        )

    def _global_step(self, L: Objective, state: APTSState, last: bool) -> tuple[APTSState, Outcome]:
        """Step 5, and how it ended."""
        o, point = self.options, state.point
        B = curvature(L, point.theta, state.memory, o)
        tried = attempt_step(L, point, B, state.global_radius, o, self._goes_on(last), state.window)
        memory, window = state.memory, state.window
        if self._learns:
            memory = learnt(memory, tried.step, tried.trial.evaluate_gradient() - point.gradient, o)
        if tried.accepted:
            point = self._reached(tried.trial, point, last)
            window = slid(window, state.point.loss - point.loss, o.window)
        new = replace(state, point=point, global_radius=tried.radius, memory=memory, window=window)
        return new, tried.outcome

    def _goes_on(self, last: bool) -> bool:
        """Whether the gradient at a trial is asked for where it is accepted.

        The next mini-batch has its own: that of the last trial is then only learnt from.
        """
        return self._learns or self.options.batch_size is None or not last

    def _reached(self, trial: Evaluation, before: Point, last: bool) -> Point:
        gradient = trial.evaluate_gradient() if self._goes_on(last) else before.gradient
        return Point(trial.theta, trial.loss, gradient)

    def _record(self, old: Point, new: APTSState, outcome: Outcome) -> Record:
        o = self.options
        part = self._batches.fraction
        first = 0 if o.batch_size is None else 1
        n = self.setting.objective.parameters
        local_update = o.local_steps * max(self._sizes) / n
        return Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=length(new.point.theta - old.theta, o.trust_region.norm),
            nominal_gradient_evaluations=part * (first + o.local_steps + 1 + o.global_steps),
            update_cost=(1 + o.global_steps + local_update) if self._learns else 0.0,
            outcome=outcome,
            epoch=self._batches.epoch(new.iteration),
            ends_epoch=self._batches.ends_epoch(new.iteration),
            details={"radius": new.radius, "trial_accepted": float(new.accepted)},
        )

    def _described(self, local: str) -> list[str]:
        """All lines but the variant's own, which says what the subdomains are."""
        o = self.options
        controlled = "accepted by its ratio" if o.global_control else "taken without control"
        forced = ", decrease forced" if o.forced_decrease else ""
        momentum = f", momentum {o.momentum:g}" if o.momentum else ""
        return [
            local,
            f"local: at most {o.local_steps} trust-region steps, {described_model(o)}",
            f"trial: the sum of all steps, {controlled}{forced}{momentum}",
            f"then {o.global_steps} global steps, {described_model(o)}",
            *described_region(o),
            self._batches.described(),
        ]


def _within(s: Tensor, radius: float, kind: Norm) -> Tensor:
    """s, shortened to Δ where it is longer."""
    size = length(s, kind)
    return s * (radius / size) if size > radius else s
