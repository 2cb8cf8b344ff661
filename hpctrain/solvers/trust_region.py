"""Trust-region training with a linear model, an L-SR1 model or the exact Hessian.

    θ ← θ + s if ρ ≥ η₁;  Δ shrinks or grows with ρ     (`trust_region_step`: s, ρ and the models)

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
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import norm
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.sampling.mini_batches import mini_batches
from hpctrain.methods.sampling.subsets import random_subset
from hpctrain.methods.trust_region.control import slid
from hpctrain.methods.trust_region.step import (
    ModelOptions,
    attempt_step,
    check_model,
    curvature,
    described_model,
    described_region,
    learnt,
)
from hpctrain.objective.evaluation import Evaluation, Smooth
from hpctrain.solvers.base import Point, Record, Setting, Solver, evaluate, point_of

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


@dataclass
class TrustRegionState:
    """θ, the radius Δ of the next step, the pairs of L-SR1, and how the last step went.

    Attributes:
        step_length: ‖s‖ of the last step; 0 if it was rejected.
        gradients: evaluated for the last step.
        stalled: no decrease was found where the model foresees none that could be measured, or
            the radius is at its minimum.
        window: how far the last W - 1 points lie above this one, of a nonmonotone acceptance.
        iteration: steps so far.
        sample_size: of the next step, where samples grow.
    """

    point: Point
    radius: float
    memory: LSR1 = field(default_factory=LSR1)
    step_length: float = 0.0
    gradients: int = 0
    stalled: bool = False
    window: list[float] = field(default_factory=list)
    iteration: int = 0
    sample_size: int = 0


@dataclass(frozen=True)
class Functions:
    """Where L, g and B of a step come from; L and g of all samples are known from the last one."""

    loss: Smooth
    gradient: Smooth
    curvature: Smooth
    known: bool = True


def trust_region_step(
    objective: Smooth, state: TrustRegionState, options: ModelOptions
) -> TrustRegionState:
    """One trial step from a point whose gradient is known; where it is rejected θ stays.

    The linear and the Hessian model evaluate the loss of a trial first, and its gradient only if
    the step is accepted. L-SR1 evaluates both in one pass: B learns from rejected steps too, where
    it was wrong, and they would be repeated if it did not.
    """
    return sampled_step(Functions(objective, objective, objective), state, options)


def sampled_step(
    functions: Functions, state: TrustRegionState, options: ModelOptions
) -> TrustRegionState:
    """`trust_region_step` with L, g and B each from its own function.

    Where these are of this step only, the new point's gradient is the model's at the old one.
    """
    f, old, learns = functions, state.point, options.model == "lsr1"
    if not f.known:
        model_gradient = f.gradient.with_gradient(old.theta)
        loss = model_gradient.loss if f.loss is f.gradient else old.loss
        old = Point(old.theta, loss, model_gradient.gradient)
    at_once = learns and f.curvature is f.loss
    B = curvature(f.curvature, old.theta, state.memory, options)
    tried = attempt_step(f.loss, old, B, state.radius, options, at_once, state.window)

    memory = state.memory
    if learns:
        memory = learnt(memory, tried.step, _gradient_change(f, old, tried.trial), options)
    new, window = old, state.window
    if tried.accepted:
        new = point_of(tried.trial) if f.known else _moved(old, tried.trial)
        window = slid(window, old.loss - new.loss, options.window)
    return replace(
        state,
        point=new,
        radius=tried.radius,
        memory=memory,
        step_length=tried.length if tried.accepted else 0.0,
        gradients=int(not f.known) + int(at_once or (f.known and tried.accepted)),
        stalled=tried.hopeless,
        window=window,
        iteration=state.iteration + 1,
    )


def _gradient_change(f: Functions, old: Point, trial: Evaluation) -> Tensor:
    """y (n,) of the function that B is of."""
    if f.curvature is f.loss:
        return trial.gradient - old.gradient
    before = old if f.curvature is f.gradient else f.curvature.with_gradient(old.theta)
    return f.curvature.with_gradient(trial.theta).gradient - before.gradient


def _moved(old: Point, trial: Evaluation) -> Point:
    return Point(trial.theta, trial.loss, old.gradient)


class TrustRegion(Solver[TrustRegionState]):
    """Single-level trust region on all parameters.

    Nominal costs count the gradients of L, those of a mini-batch as the part of it that it is; an
    update of the memory is one of the full model's.
    """

    def __init__(self, setting: Setting, options: TrustRegionSolverOptions) -> None:
        super().__init__(setting, options)
        check_model(setting, options)
        self._batches = mini_batches(setting, options.batch_size, options.batch_overlap)
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
        new.stalled = new.stalled and exact
        return new, Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=new.step_length,
            nominal_gradient_evaluations=self._batches.fraction * new.gradients,
            update_cost=float(o.model == "lsr1"),
            stalled=new.stalled,
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
