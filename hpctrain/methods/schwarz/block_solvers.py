"""How a Schwarz method solves a block: some steps of a descent method on θ_s ↦ L, all else frozen.

A local solver is a few steps of a method that other solvers use undecomposed, and says what of
itself is worth keeping for the block's next local phase. A kept memory describes the block's
curvature where it was gathered; when the other blocks and the global step have moved θ meanwhile
it stays in use as a preconditioner, and the steps that follow correct it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor

from hpctrain.methods.quasi_newton.factors import Factors
from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian, Update
from hpctrain.methods.quasi_newton.lbfgs import LBFGSState, lbfgs_step
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.quasi_newton.self_scaled import SelfScaledMethod
from hpctrain.methods.quasi_newton.update_cost import count_matrix, count_pairs
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.methods.trust_region.control import TrustRegionOptions
from hpctrain.methods.trust_region.models import LSR1Model
from hpctrain.methods.trust_region.sampled import Exact, TrustRegionState, make_step
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.objective import Objective, Point
from hpctrain.parallel.communicator import Communicator
from hpctrain.store.state import RowBlock


class LocalSolver(Protocol):
    """Minimises an objective, restricted to a block, from a point.

    A memory is a dataclass that checkpoints can walk (see `hpctrain.store.state`). It is part of
    its block's state, so that every rank of the block's group has all of it.
    """

    @property
    def label(self) -> str:
        """The method, as the solver's description names it."""

    def make_fresh(self) -> Any:
        """The memory of a solver that knows nothing yet."""

    def solve(
        self, objective: Objective, point: Point, memory: Any, steps: int
    ) -> tuple[Point, Any]:
        """The point after `steps` steps at most, and the memory to keep of them.

        Ends early where a step fails though nothing is remembered. Never raises the loss.
        """

    def count_update_cost(self, size: int, parameters: int) -> float:
        """Of a step on a block of `size` of all parameters; see `quasi_newton.update_cost`."""


class Steps(Protocol):
    """The state of a method that goes on step by step."""

    @property
    def point(self) -> Point: ...

    @property
    def step_length(self) -> float: ...

    @property
    def is_fresh(self) -> bool: ...


State = TypeVar("State", bound=Steps)


def take_steps(step: Callable[[State], State], state: State, count: int) -> State:
    """`count` steps, fewer where one fails with and without what the method remembers."""
    for _ in range(count):
        was_fresh = state.is_fresh
        state = step(state)
        if state.step_length == 0 and was_fresh:
            break
    return state


@dataclass
class LBFGSMemory:
    """The secant pairs of a block and its velocity v (n_s,) between local phases."""

    pairs: SecantPairs = field(default_factory=SecantPairs)
    velocity: Tensor | None = None


@dataclass(frozen=True)
class LocalLBFGS:
    """L-BFGS, by default without momentum; it keeps its secant pairs and its velocity."""

    memory: int
    line_search: LineSearchOptions
    momentum: float = 1.0

    @property
    def label(self) -> str:
        momentum = f", momentum {self.momentum:g}" if self.momentum < 1 else ""
        return f"L-BFGS, {self.memory} pairs{momentum}"

    def make_fresh(self) -> LBFGSMemory:
        return LBFGSMemory()

    def solve(
        self, objective: Objective, point: Point, memory: LBFGSMemory, steps: int
    ) -> tuple[Point, LBFGSMemory]:
        def step(state: LBFGSState) -> LBFGSState:
            return lbfgs_step(objective, state, self.memory, self.momentum, self.line_search)

        state = take_steps(step, LBFGSState(point, memory.pairs, memory.velocity), steps)
        return state.point, LBFGSMemory(state.pairs, state.velocity)

    def count_update_cost(self, size: int, parameters: int) -> float:
        return count_pairs(self.memory, size / parameters)


@dataclass(eq=False)
class BlockHessian:
    """An `InverseHessian` of a block between local phases, its rows all together.

    Attributes:
        panels: of its factors, each (n_s, b).
        D: (k, 2, 2) of its factors.
        matrix: (n_s, n_s), in the place of factors.
    """

    scale: float = 1.0
    panels: list[Tensor] = field(default_factory=list)
    D: Tensor = field(default_factory=lambda: Factors().D)
    matrix: Tensor | None = None
    waiting: Update | None = None


@dataclass(frozen=True)
class LocalSelfScaled:
    """Self-scaled Broyden (`quasi_newton.self_scaled`); it keeps its H_s.

    Every rank of a block's group has the whole of H_s: at most n_s² numbers, few where n² are many.
    The products by H_s need no messages, and the block's state is one rank's to write. The ranks of
    a group share the samples only.
    """

    name: str
    line_search: LineSearchOptions
    threads: int

    @property
    def label(self) -> str:
        return f"{self.name} with inverse Hessians of its own"

    def make_fresh(self) -> BlockHessian:
        return BlockHessian()

    def solve(
        self, objective: Objective, point: Point, memory: BlockHessian, steps: int
    ) -> tuple[Point, BlockHessian]:
        alone = Communicator(None, objective.communicator.timer)
        method = SelfScaledMethod(self.name, self.line_search, alone, self.threads)
        state = take_steps(
            lambda state: method.step(objective, state),
            method.start(point, _add_row_blocks(memory)),
            steps,
        )
        return state.point, _drop_row_blocks(state.H)

    def count_update_cost(self, size: int, parameters: int) -> float:
        return count_matrix(size, parameters)


@dataclass
class TrustRegionMemory:
    """The radius Δ and the L-SR1 Hessian of a block between local phases."""

    radius: float
    pairs: LSR1


@dataclass(frozen=True)
class LocalTrustRegion:
    """Trust region with L-SR1 (`solvers.trust_region`); it keeps its radius and its pairs.

    A rejected step is one of the `steps`; the solve ends early only where it stalls.
    """

    memory: int
    region: TrustRegionOptions

    @property
    def label(self) -> str:
        return f"trust region with L-SR1, {self.memory} pairs"

    def make_fresh(self) -> TrustRegionMemory:
        return TrustRegionMemory(self.region.radius, LSR1())

    def solve(
        self, objective: Objective, point: Point, memory: TrustRegionMemory, steps: int
    ) -> tuple[Point, TrustRegionMemory]:
        state = TrustRegionState(point, memory.radius, memory.pairs)
        rule = TrialRule(LSR1Model(self.memory), self.region, self.region.norm)
        for _ in range(steps):
            state = make_step(Exact(objective), state, rule)
            if state.outcome.is_final:
                break
        return state.point, TrustRegionMemory(state.radius, state.memory)

    def count_update_cost(self, size: int, parameters: int) -> float:
        return count_pairs(self.memory, size / parameters)


def _add_row_blocks(memory: BlockHessian) -> InverseHessian:
    panels = [_make_whole(panel) for panel in memory.panels]
    rows = None if memory.matrix is None else _make_whole(memory.matrix)
    H = InverseHessian(memory.scale, Factors(panels, memory.D), rows, memory.waiting)
    H.share_with(memory)
    return H


def _drop_row_blocks(H: InverseHessian) -> BlockHessian:
    panels = [panel.rows for panel in H.factors.panels]
    matrix = None if H.rows is None else H.rows.rows
    return BlockHessian(H.scale, panels, H.factors.D, matrix, H.waiting)


def _make_whole(matrix: Tensor) -> RowBlock:
    return RowBlock(matrix, 0, len(matrix))
