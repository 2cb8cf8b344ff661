"""The frame of multilevel minimisation: cycles over levels 1 (coarsest) … L of whatever kind.

    h^l(θ) = L^l(θ) + ⟨δg^l, θ - θ₀^l⟩,   θ₀^l = P θ,   δg^l = R ∇h^{l+1}(θ) - ∇L^l(θ₀^l),   R = Iᵀ

for the θ of level l + 1 at which level l is visited, so that ∇h^l(θ₀^l) = R ∇h^{l+1}(θ); δg = 0 on
the finest level. A V-cycle on level l is: μ₁ smoothing steps on h^l; a correction s = I (θ* - θ₀),
θ* from the cycle on level l - 1; its control; μ₂ smoothing steps. In an F-cycle the correction
comes from an F-cycle, and after smoothing steps another one from a V-cycle. On the coarsest level
only the steps of its solver are made.

A method is made of levels: what L^l is (fewer samples, fewer layers), who makes the steps
(`smoothers`), how parameters are transferred, and how a correction is controlled.

Sources: Nash, MG/OPT, Optimization Methods and Software 14 (2000); Gratton, Sartenaer, Toint,
Recursive trust-region methods, SIAM Journal on Optimization 19 (2008); Kopaničáková and Krause,
SIAM Journal on Scientific Computing 45(3) (2023), arXiv 2107.07572.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from torch import Tensor

from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.search.armijo import ArmijoOptions, armijo
from hpctrain.methods.trust_region.control import RadiusOptions, estimate_rounding, judge
from hpctrain.networks.transfers import Identity, Transfer
from hpctrain.objective import (
    Objective,
    Point,
    Smooth,
    complete_point,
    evaluate_point,
    make_consistent,
)

Cycle = Literal["V", "F"]

# A correction as long as this fraction of its radius was held back by it.
FAR = 0.5


@dataclass(frozen=True)
class Room:
    """How far a level may go from where it began: ‖I (θ - θ₀)‖ ≤ limit."""

    origin: Tensor
    limit: float = math.inf
    transfer: Transfer = field(default_factory=Identity)

    def find_room(self, theta: Tensor) -> float:
        """The longest step from θ that surely stays inside."""
        if math.isinf(self.limit):
            return math.inf
        gone = norm(self.transfer.prolong(theta - self.origin))
        return max(self.limit - gone, 0.0) / self.transfer.stretch


@dataclass
class LevelState:
    """Where a level stands, and what is known there.

    The coarser level is another model of h^l than that of the level's own steps, and may be good
    much farther, or less far: each has a trust region of its own.

    Attributes:
        point: θ with h^l and its gradient.
        radius: Δ of the level's own steps; ∞ without a trust region.
        memory: what the level's solver knows.
        reach: Δ of corrections by the coarser level; ∞ without a trust region.
        outcome: of the last step of a trust region.
    """

    point: Point
    radius: float = math.inf
    memory: Any = None
    reach: float = math.inf
    outcome: Outcome = Outcome.ACCEPTED


class LevelSolver(Protocol):
    """Makes steps on one level's function."""

    def advance(self, h: Smooth, state: LevelState, count: int, room: Room) -> LevelState:
        """At most `count` steps from a point whose loss and gradient are those of h; collective."""

    def learn(self, memory: Any, old: Point, new: Point) -> Any:
        """The memory after a correction from one point of h to another."""


class Control(Protocol):
    """Decides what becomes of a coarse correction."""

    def is_worthwhile(self, fine: Tensor, coarse: Tensor) -> bool:
        """Whether the coarse level can do enough, by the gradients g and R g."""

    def apply(self, h: Smooth, state: LevelState, s: Tensor, decrease: float) -> LevelState:
        """The fine level's state after the correction s, which lowered h^l by `decrease`."""


@dataclass(frozen=True)
class Correction:
    """θ* of a coarse level, and h^l(θ₀) - h^l(θ*)."""

    theta: Tensor
    decrease: float


class Coarser(Protocol):
    """What a level asks for its corrections."""

    @property
    def transfer(self) -> Transfer:
        """Between the parameters of the asking level and its own."""

    @property
    def is_coarsest(self) -> bool:
        """Whether it asks no other level."""

    def compute_correction(
        self, origin: Tensor, gradient: Tensor, radius: float, cycle: Cycle
    ) -> Correction:
        """θ* of a model with gradient R g at the origin θ₀, ‖I (θ* - θ₀)‖ ≤ Δ; collective."""


class Level:
    """One level, with all those that are coarser.

    Args:
        objective: L^l.
        solver: makes its smoothing steps, or all steps of the coarsest level.
        steps: (μ₁, μ₂); on the coarsest level μ₁ is the number of all steps.
        coarser: the next level, None on the coarsest.
        control: of the next level's corrections.
        transfer: to the next *finer* level.
        radius, memory, reach: what a visit of the level starts from, and leaves for the next one.
    """

    def __init__(
        self,
        objective: Objective,
        solver: LevelSolver,
        steps: tuple[int, int],
        coarser: Coarser | None = None,
        control: Control | None = None,
        transfer: Transfer | None = None,
        radius: float = math.inf,
        memory: Any = None,
        reach: float = math.inf,
    ) -> None:
        self.objective = objective
        self.solver = solver
        self.coarser = coarser
        self.transfer = transfer or Identity()
        self.radius = radius
        self.memory = memory
        self.reach = reach
        self._steps = steps
        self._control = control or NoControl()

    @property
    def is_coarsest(self) -> bool:
        return self.coarser is None

    def compute_correction(
        self, origin: Tensor, gradient: Tensor, radius: float, cycle: Cycle
    ) -> Correction:
        h, start = make_consistent(self.objective, gradient, origin)
        end = self.visit(h, start, cycle, Room(origin, radius, self.transfer))
        return Correction(end.point.theta, start.loss - end.point.loss)

    def visit(self, h: Smooth, point: Point, cycle: Cycle, room: Room) -> LevelState:
        """One cycle from a point of h, with what is known from earlier visits."""
        end = self.cycle(h, LevelState(point, self.radius, self.memory, self.reach), cycle, room)
        self.radius, self.memory, self.reach = end.radius, end.memory, end.reach
        return end

    def cycle(self, h: Smooth, state: LevelState, cycle: Cycle, room: Room) -> LevelState:
        """One cycle on this level's h, which is L^l itself on the finest."""
        before, after = self._steps
        state = self.solver.advance(h, state, before, room)
        if self.coarser is None:
            return state
        state = self._correct(self.coarser, h, state, cycle, room)
        state = self.solver.advance(h, state, after, room)
        if cycle == "F" and not self.coarser.is_coarsest:
            state = self._correct(self.coarser, h, state, "V", room)
            state = self.solver.advance(h, state, after, room)
        return state

    def cascade(self, theta: Tensor) -> Tensor:
        """A first θ for the next finer level: one cycle on each level, from the coarsest up."""
        if isinstance(self.coarser, Level):
            transfer = self.coarser.transfer
            theta = transfer.prolong(self.coarser.cascade(transfer.project(theta)))
        start = evaluate_point(self.objective, theta)
        return self.visit(self.objective, start, "V", Room(theta)).point.theta

    def _correct(
        self, coarser: Coarser, h: Smooth, state: LevelState, cycle: Cycle, room: Room
    ) -> LevelState:
        point, transfer = state.point, coarser.transfer
        gradient = transfer.restrict(point.gradient)
        radius = min(state.reach, room.find_room(point.theta))
        if not self._control.is_worthwhile(point.gradient, gradient) or radius == 0:
            return state
        origin = transfer.project(point.theta)
        found = coarser.compute_correction(origin, gradient, radius, cycle)
        s = transfer.prolong(found.theta - origin)
        new = self._control.apply(h, state, s, found.decrease)
        if new.point is point:
            return new
        return replace(new, memory=self.solver.learn(new.memory, point, new.point))


class NoControl:
    """Takes every correction, as SVRG and sub-sampled Newton with fixed steps do."""

    def is_worthwhile(self, fine: Tensor, coarse: Tensor) -> bool:
        return True

    def apply(self, h: Smooth, state: LevelState, s: Tensor, decrease: float) -> LevelState:
        return replace(state, point=evaluate_point(h, state.point.theta + s))


@dataclass(frozen=True)
class LineSearchControl:
    """MG/OPT: Armijo backtracking along s; without decrease the correction is left out."""

    options: ArmijoOptions

    def is_worthwhile(self, fine: Tensor, coarse: Tensor) -> bool:
        return True

    def apply(self, h: Smooth, state: LevelState, s: Tensor, decrease: float) -> LevelState:
        old = state.point
        slope = dot(old.gradient, s)
        found = armijo(h, old.theta, s, old.loss, slope, 1.0, self.options)
        return state if found is None else replace(state, point=complete_point(found.evaluation))


@dataclass(frozen=True)
class TrustRegionControl:
    """RMTR: takes s if ρ = fine decrease / coarse decrease ≥ η₁, and adapts its radius.

    Attributes:
        options: η₁, η₂ and the factors of the radius.
        kappa: a coarse level is visited only if ‖R g‖ ≥ κ ‖g‖.
    """

    options: RadiusOptions
    kappa: float = 0.0

    def is_worthwhile(self, fine: Tensor, coarse: Tensor) -> bool:
        return norm(coarse) >= self.kappa * norm(fine)

    def apply(self, h: Smooth, state: LevelState, s: Tensor, decrease: float) -> LevelState:
        old, length = state.point, norm(s)
        if length == 0:  # no coarse step was taken, which says nothing of the radius
            return state
        trial = h.evaluate(old.theta + s)
        rounding = estimate_rounding(old.loss, s.dtype)
        # The level below keeps its distance from Δ, which holds it back all the same.
        held = state.reach if length >= FAR * state.reach else length
        found = judge(old.loss, trial.loss, decrease, state.reach, held, rounding, self.options)
        point = complete_point(trial) if found.accepted else old
        return replace(state, point=point, reach=found.radius)
