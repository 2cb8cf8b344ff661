"""Who makes the steps on a level: gradient descent, Newton, L-BFGS, a trust region."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from hpctrain.linalg.krylov import UNBOUNDED
from hpctrain.linalg.krylov.steihaug_cg import steihaug_cg
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.multilevel.cycles import LevelState, Room
from hpctrain.methods.quasi_newton.lbfgs import LBFGSState, lbfgs_step
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.search.armijo import ArmijoOptions, armijo
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.methods.trust_region.local_phase import Phase, run_local_phase
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.objective import Point, Smooth, complete_point, evaluate_point

# Trust-region steps on a level end where no more than this part of its room is left.
SPENT = 0.1


@dataclass(frozen=True)
class StepRule:
    """How far to go along a direction: a fixed step, or Armijo backtracking from it."""

    step: float
    search: ArmijoOptions | None

    def choose_point(self, h: Smooth, point: Point, d: Tensor) -> Point | None:
        """The point reached; None where no decrease was found."""
        if self.search is None:
            return evaluate_point(h, point.theta + self.step * d)
        slope = dot(point.gradient, d)
        found = armijo(h, point.theta, d, point.loss, slope, self.step, self.search)
        return None if found is None else complete_point(found.evaluation)


@dataclass(frozen=True)
class DirectionSteps:
    """Steps along a direction made from a point: -∇h, or Newton's.

    Attributes:
        direction: (h, point) ↦ d.
        rule: the step along d.
        tolerance: steps end where ‖∇h‖ ≤ tolerance · ‖∇h(θ₀)‖.
    """

    direction: Callable[[Smooth, Point], Tensor]
    rule: StepRule
    tolerance: float = 0.0

    def advance(self, h: Smooth, state: LevelState, count: int, room: Room) -> LevelState:
        enough = self.tolerance * norm(state.point.gradient)
        for _ in range(count):
            if norm(state.point.gradient) <= enough:
                break
            point = self.rule.choose_point(h, state.point, self.direction(h, state.point))
            if point is None:
                break
            state = replace(state, point=point)
        return state

    def learn(self, memory: Any, old: Point, new: Point) -> Any:
        return memory


@dataclass(frozen=True)
class LBFGSSteps:
    """L-BFGS with strong Wolfe, which learns from its own steps and from corrections alike."""

    memory: int
    search: LineSearchOptions
    tolerance: float = 0.0

    def advance(self, h: Smooth, state: LevelState, count: int, room: Room) -> LevelState:
        enough = self.tolerance * norm(state.point.gradient)
        inner = LBFGSState(state.point, state.memory or SecantPairs())
        for _ in range(count):
            if norm(inner.point.gradient) <= enough:
                break
            inner = lbfgs_step(h, inner, self.memory, 1.0, self.search)
            if not inner.step_length:
                break
        return replace(state, point=inner.point, memory=inner.pairs)

    def learn(self, memory: SecantPairs | None, old: Point, new: Point) -> SecantPairs:
        known = memory or SecantPairs()
        pairs = SecantPairs(known.s, known.y)
        pairs.store(new.theta - old.theta, new.gradient - old.gradient, self.memory)
        return pairs


@dataclass(frozen=True)
class LevelLimit:
    """The room of a level, as the limit of a phase of trust-region steps on it.

    Attributes:
        room: ‖I (θ - θ₀)‖ ≤ Δ of the finer level, θ₀ where the level was entered.
        smallest: the least Δ of steps.
    """

    room: Room
    smallest: float

    @property
    def least(self) -> float:
        """A part of the room, or the least Δ: shorter steps are left to the next visit."""
        spent = 0.0 if math.isinf(self.room.limit) else SPENT * self.room.limit
        return max(spent, self.smallest)

    def find_room(self, phase: Phase) -> float:
        return self.room.find_room(phase.point.theta)


@dataclass(frozen=True)
class TrustRegionSteps:
    """Trust-region steps that stay in the level's room; L-SR1 learns from corrections too.

    Attributes:
        rule: the model of h and the control of the radius, in the 2-norm.
    """

    rule: TrialRule

    def advance(self, h: Smooth, state: LevelState, count: int, room: Room) -> LevelState:
        limit = LevelLimit(room, self.rule.control.min_radius)
        pairs = state.memory or LSR1()
        end = run_local_phase(h, state.point, state.radius, pairs, count, limit, self.rule)
        if end.trials == 0 and not end.outcome.is_final:  # the outcome is that of earlier steps
            return state
        return replace(
            state, point=end.point, radius=end.radius, memory=end.pairs, outcome=end.outcome
        )

    def learn(self, memory: LSR1 | None, old: Point, new: Point) -> LSR1:
        s = new.theta - old.theta
        return self.rule.model.learn(memory or LSR1(), s, lambda: new.gradient - old.gradient)


def negate_gradient(h: Smooth, point: Point) -> Tensor:
    """-∇h."""
    return -point.gradient


def make_newton_direction(
    cg_iterations: int, cg_tolerance: float
) -> Callable[[Smooth, Point], Tensor]:
    """A function of (h, point) that solves ∇²h d = -∇h by conjugate gradients.

    They stop after `cg_iterations`, at the relative residual `cg_tolerance`, or before a direction
    of no positive curvature, which is -∇h itself if it is the first.
    """

    def direction(h: Smooth, point: Point) -> Tensor:
        def product(v: Tensor) -> Tensor:
            return h.multiply_hessian(point.theta, v)

        return steihaug_cg(product, point.gradient, UNBOUNDED, cg_tolerance, cg_iterations).step

    return direction
