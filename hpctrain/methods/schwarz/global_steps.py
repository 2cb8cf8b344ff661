"""The global steps of a Schwarz method: a quasi-Newton method on all of θ, at each θ_{k+1/2}.

The preconditioner moves θ between two global steps; what the method remembers stays.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from hpctrain.methods.quasi_newton.lbfgs import LBFGSState, lbfgs_step
from hpctrain.methods.quasi_newton.self_scaled import SelfScaledMethod, SelfScaledState
from hpctrain.methods.quasi_newton.update_cost import count_matrix, count_pairs
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.objective import Objective, Point


class GlobalMethod(Protocol):
    """A quasi-Newton method whose point is moved by others between its steps."""

    @property
    def label(self) -> str:
        """The method, as the solver's description names it."""

    def start(self, point: Point) -> Any:
        """The state at θ₀, with nothing remembered."""

    def move(self, state: Any, point: Point) -> Any:
        """What the state remembers, at another point; collective."""

    def step(self, objective: Objective, state: Any) -> Any:
        """One step; collective."""

    def count_update_cost(self, parameters: int) -> float:
        """Of a step on n parameters; see `quasi_newton.update_cost`."""


@dataclass(frozen=True)
class GlobalLBFGS:
    """L-BFGS with momentum."""

    memory: int
    momentum: float
    line_search: LineSearchOptions

    @property
    def label(self) -> str:
        return f"L-BFGS, {self.memory} pairs, momentum {self.momentum:g}"

    def start(self, point: Point) -> LBFGSState:
        return LBFGSState(point)

    def move(self, state: LBFGSState, point: Point) -> LBFGSState:
        return LBFGSState(point, state.pairs, state.velocity)

    def step(self, objective: Objective, state: LBFGSState) -> LBFGSState:
        return lbfgs_step(objective, state, self.memory, self.momentum, self.line_search)

    def count_update_cost(self, parameters: int) -> float:
        return count_pairs(self.memory)


@dataclass(frozen=True)
class GlobalSelfScaled:
    """Self-scaled Broyden, without momentum; H lies by rows over all ranks."""

    method: SelfScaledMethod

    @property
    def label(self) -> str:
        ranks = self.method.ranks.size
        return f"{self.method.name}, inverse Hessian by rows over {ranks} ranks"

    def start(self, point: Point) -> SelfScaledState:
        return self.method.start(point)

    def move(self, state: SelfScaledState, point: Point) -> SelfScaledState:
        return self.method.move(state, point)

    def step(self, objective: Objective, state: SelfScaledState) -> SelfScaledState:
        return self.method.step(objective, state)

    def count_update_cost(self, parameters: int) -> float:
        return count_matrix(parameters, parameters)
