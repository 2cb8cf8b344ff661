"""Variance-reduced gradient descent and sub-sampled Newton, the baselines of MLVR.

They take fixed steps along an estimate of the gradient of a finite sum, or of Newton's direction.
Costs are effective gradient evaluations, Σ |D_used| / |D| over all losses, gradients and
Hessian-vector products: whatever takes the samples of D_used is one evaluation of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.linalg.vectors import norm
from hpctrain.methods.multilevel.smoothers import StepRule, make_newton_direction
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.sampling.subsets import count_share, draw_sample_gradients, draw_subset
from hpctrain.methods.search.armijo import ArmijoOptions
from hpctrain.objective import Objective, Point, evaluate_point
from hpctrain.options import Options
from hpctrain.solvers.base import Need, Record, Setting, Solver


class SVRGOptions(Options):
    """Settings of SVRG and SARAH."""

    name: Literal["svrg", "sarah"] = "svrg"
    learning_rate: float = Field(0.1, gt=0, description="length of a step, α")
    inner_steps: int | None = Field(
        None, ge=1, description="steps of one sample between full gradients; by default 2 |D|"
    )


class SSNOptions(Options):
    """Settings of sub-sampled Newton, and of Newton's method with a line search."""

    name: Literal["ssn"] = "ssn"
    share: float = Field(0.1, gt=0, le=1, description="|D¹| / |D|, the Hessian's samples")
    learning_rate: float = Field(1.0, gt=0, description="length of a step, α")
    cg_iterations: int = Field(10, ge=1, description="cap on Hessian products a step")
    cg_tolerance: float = Field(1e-8, ge=0, lt=1, description="relative residual that ends them")


class NewtonOptions(Options):
    """Settings of Newton's method."""

    name: Literal["newton"] = "newton"
    cg_iterations: int = Field(1000, ge=1, description="cap on Hessian products a step")
    cg_tolerance: float = Field(1e-8, ge=0, lt=1, description="relative residual that ends them")
    line_search: ArmijoOptions = Field(
        ArmijoOptions(), description="constants of Armijo backtracking"
    )


@dataclass
class IterateState:
    """θ with the full loss and gradient there, and the iterations so far."""

    point: Point
    iteration: int = 0


def start(setting: Setting, theta: Tensor) -> IterateState:
    """The state at θ₀ (n,); collective."""
    with setting.timer.phase("global"):
        return IterateState(evaluate_point(setting.objective, theta))


def move(
    setting: Setting,
    state: IterateState,
    advance: Callable[[IterateState], Point],
    unmoved: Outcome = Outcome.STEP_UNDERFLOW,
) -> tuple[IterateState, Record]:
    """One iteration, with its cost; collective.

    Args:
        setting: of the solver.
        state: from which it starts.
        advance: gives the next point.
        unmoved: how the iteration ended where that is the same one.
    """
    before = setting.counts.effective_evaluations
    with setting.timer.phase("global"):
        point = advance(state)
    spent = setting.counts.effective_evaluations - before
    length = norm(point.theta - state.point.theta)
    outcome = Outcome.ACCEPTED if length else unmoved
    record = Record(point.loss, norm(point.gradient), length, spent, 1, outcome)
    return IterateState(point, state.iteration + 1), record


def draw_gradients(
    setting: Setting, options: SVRGOptions, iteration: int
) -> Iterator[Callable[[Tensor], Tensor]]:
    """θ ↦ ∇ℓ_j(θ) of the sample j of each step between two full gradients."""
    L = setting.objective
    return draw_sample_gradients(L, count_steps(L, options), setting.seed, iteration)


def count_steps(objective: Objective, options: SVRGOptions) -> int:
    """m, the steps between two full gradients."""
    return options.inner_steps or 2 * objective.samples


def describe_steps(objective: Objective, options: SVRGOptions) -> list[str]:
    """How SVRG or SARAH is composed."""
    o, steps = options, count_steps(objective, options)
    return [f"{o.name}, learning rate {o.learning_rate:g}, {steps} steps of one sample each"]


class SVRG(Solver[IterateState]):
    """Stochastic variance-reduced gradient: m steps of one sample j each, from θ_0 = θ̃.

        θ_t+1 = θ_t - α (∇ℓ_j(θ_t) - ∇ℓ_j(θ̃) + ∇L(θ̃)),   θ̃ ← θ_m

    Source: Johnson and Zhang, NeurIPS 2013, with option I.
    """

    names = ("svrg",)
    Options = SVRGOptions
    needs = frozenset({Need.SUBSETS})

    def init(self, theta: Tensor) -> IterateState:
        return start(self.setting, theta)

    def step(self, state: IterateState) -> tuple[IterateState, Record]:
        return move(self.setting, state, self._advance)

    def _advance(self, state: IterateState) -> Point:
        L, o = self.setting.objective, self.options
        anchor = state.point
        theta = anchor.theta
        for gradient in draw_gradients(self.setting, self.options, state.iteration):
            change = gradient(theta) - gradient(anchor.theta)
            theta = theta - o.learning_rate * (change + anchor.gradient)
        return evaluate_point(L, theta)

    def describe(self) -> list[str]:
        return describe_steps(self.setting.objective, self.options)


class SARAH(Solver[IterateState]):
    """Stochastic recursive gradient: the estimate follows the steps, v_0 = ∇L(θ_0).

        v_t = ∇ℓ_j(θ_t) - ∇ℓ_j(θ_t-1) + v_t-1,   θ_t+1 = θ_t - α v_t

    Source: Nguyen, Liu, Scheinberg, Takáč, ICML 2017, arXiv 1703.00102.
    """

    names = ("sarah",)
    Options = SVRGOptions
    needs = frozenset({Need.SUBSETS})

    def init(self, theta: Tensor) -> IterateState:
        return start(self.setting, theta)

    def step(self, state: IterateState) -> tuple[IterateState, Record]:
        return move(self.setting, state, self._advance)

    def _advance(self, state: IterateState) -> Point:
        alpha = self.options.learning_rate
        last, v = state.point.theta, state.point.gradient
        theta = last - alpha * v
        for gradient in draw_gradients(self.setting, self.options, state.iteration):
            v = gradient(theta) - gradient(last) + v
            last, theta = theta, theta - alpha * v
        return evaluate_point(self.setting.objective, theta)

    def describe(self) -> list[str]:
        return describe_steps(self.setting.objective, self.options)


class SSN(Solver[IterateState]):
    """Sub-sampled Newton: the full gradient, and the Hessian of a fresh random sample D¹.

        θ ← θ + α d,   ∇²L¹(θ) d ≈ -∇L(θ) by conjugate gradients

    Source: Bollapragada, Byrd, Nocedal, IMA Journal of Numerical Analysis 39 (2019).
    """

    names = ("ssn",)
    Options = SSNOptions
    needs = frozenset({Need.SUBSETS})

    def init(self, theta: Tensor) -> IterateState:
        return start(self.setting, theta)

    def step(self, state: IterateState) -> tuple[IterateState, Record]:
        return move(self.setting, state, self._advance)

    def _advance(self, state: IterateState) -> Point:
        L, o = self.setting.objective, self.options
        size = count_share(o.share, L.samples)
        sample = L.subset(draw_subset(self.setting.seed, L.samples, size, state.iteration, 0))
        d = make_newton_direction(o.cg_iterations, o.cg_tolerance)(sample, state.point)
        return evaluate_point(L, state.point.theta + o.learning_rate * d)

    def describe(self) -> list[str]:
        o = self.options
        return [
            f"sub-sampled Newton, Hessian of {100 * o.share:g} % of the samples,"
            f" at most {o.cg_iterations} conjugate gradients",
            f"learning rate {o.learning_rate:g}",
        ]


class Newton(Solver[IterateState]):
    """Newton's method with the Hessian of all samples, conjugate gradients and backtracking."""

    names = ("newton",)
    Options = NewtonOptions
    needs = frozenset({Need.SUBSETS})

    def init(self, theta: Tensor) -> IterateState:
        return start(self.setting, theta)

    def step(self, state: IterateState) -> tuple[IterateState, Record]:
        return move(self.setting, state, self._advance, Outcome.NO_NEWTON_DESCENT)

    def _advance(self, state: IterateState) -> Point:
        L, o = self.setting.objective, self.options
        d = make_newton_direction(o.cg_iterations, o.cg_tolerance)(L, state.point)
        return StepRule(1.0, o.line_search).choose_point(L, state.point, d) or state.point

    def describe(self) -> list[str]:
        o = self.options
        cg = f"at most {o.cg_iterations} conjugate gradients to {o.cg_tolerance:g}"
        return [f"Newton, {cg}, Armijo backtracking"]
