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

from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian
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

# Rows of an inverse Hessian that are divided among ranks: 2,048 of 128 columns are 2 MB, which take
# some 0.2 ms to be read twice.
LEAST_DIVIDED = 2048


class LocalSolver(Protocol):
    """Minimises an objective, restricted to a block, from a point.

    A memory is a dataclass that checkpoints can walk (see `hpctrain.store.state`). It is part of
    its block's state: every rank of the block's group has all of it, but for rows that they divide.
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


@dataclass(frozen=True)
class LocalSelfScaled:
    """Self-scaled Broyden (`quasi_newton.self_scaled`), which keeps its H_s."""

    name: str
    line_search: LineSearchOptions
    threads: int

    @property
    def label(self) -> str:
        return f"{self.name} with inverse Hessians of its own"

    def make_fresh(self) -> InverseHessian:
        return InverseHessian()

    def solve(
        self, objective: Objective, point: Point, memory: InverseHessian, steps: int
    ) -> tuple[Point, InverseHessian]:
        ranks = choose_row_ranks(len(point.theta), objective.communicator)
        method = SelfScaledMethod(self.name, self.line_search, ranks, self.threads)
        state = take_steps(
            lambda state: method.step(objective, state), method.start(point, memory), steps
        )
        return state.point, state.H

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


def choose_row_ranks(size: int, ranks: Communicator) -> Communicator:
    """The ranks that divide the rows of a block's H_s: all of the block's, or each for itself.

    Args:
        size: n_s.
        ranks: those that work on the block.
    """
    return ranks if has_divided_rows(size) else Communicator(None, ranks.timer)


def has_divided_rows(size: int) -> bool:
    """Whether the ranks of a block divide the rows of its H_s.

    Of few rows each has all, as two messages a product take longer than to read them.
    """
    return size >= LEAST_DIVIDED
