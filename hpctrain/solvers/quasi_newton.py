"""Undecomposed quasi-Newton training: L-BFGS with momentum, self-scaled (SS) BFGS and Broyden."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lbfgs import LBFGSState, lbfgs_step
from hpctrain.methods.quasi_newton.self_scaled import SelfScaledMethod, SelfScaledState
from hpctrain.methods.quasi_newton.update_cost import count_matrix, count_pairs
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.objective import evaluate_point
from hpctrain.options import Options
from hpctrain.solvers.base import Record, Setting, Solver


class LBFGSOptions(Options):
    """Settings of L-BFGS."""

    name: Literal["lbfgs"] = "lbfgs"
    memory: int = Field(3, ge=1, description="secant pairs kept, m")
    momentum: float = Field(0.9, gt=0, le=1, description="weight of the new direction; 1 is none")
    line_search: LineSearchOptions = Field(
        LineSearchOptions(), description="constants of the line search, strong Wolfe"
    )


class LBFGS(Solver[LBFGSState]):
    """L-BFGS with momentum (Nocedal and Wright 2006, chapter 7; momentum as in `lbfgs_step`)."""

    names = ("lbfgs",)
    Options = LBFGSOptions

    def init(self, theta: Tensor) -> LBFGSState:
        with self.setting.timer.phase("global"):
            return LBFGSState(evaluate_point(self.setting.objective, theta))

    def step(self, state: LBFGSState) -> tuple[LBFGSState, Record]:
        o = self.options
        with self.setting.timer.phase("global"):
            new = lbfgs_step(self.setting.objective, state, o.memory, o.momentum, o.line_search)
        return new, _record(state.is_fresh, new, count_pairs(o.memory))

    def go_back(self, state: LBFGSState, theta: Tensor) -> LBFGSState:
        return self.init(theta)

    def describe(self) -> list[str]:
        o = self.options
        return [
            f"L-BFGS, {o.memory} secant pairs, momentum {o.momentum:g}",
            f"strong Wolfe line search, c1 {o.line_search.c1:g}, c2 {o.line_search.c2:g}",
        ]


class SelfScaledOptions(Options):
    """Settings of SSBFGS and SSBroyden."""

    name: Literal["ssbfgs", "ssbroyden"] = "ssbroyden"
    memory: int | None = Field(
        None, ge=1, description="updates kept, then H starts anew; by default all are"
    )
    line_search: LineSearchOptions = Field(
        LineSearchOptions(), description="constants of the line search, strong Wolfe"
    )


class SelfScaled(Solver[SelfScaledState]):
    """Self-scaled BFGS and Broyden, with the inverse Hessian by rows over all ranks.

    Sources: Urbán, Stefanou, Pons, arXiv 2405.04230; Kiyani et al., arXiv 2501.16371.
    """

    names = ("ssbfgs", "ssbroyden")
    Options = SelfScaledOptions

    @classmethod
    def check_needs(cls, setting: Setting, options: SelfScaledOptions) -> None:
        super().check_needs(setting, options)
        n = setting.objective.parameters
        if options.memory is not None and 2 * options.memory >= n:
            raise InputError(
                f"solver.memory = {options.memory} is not allowed: less than half of the {n}"
                " parameters, as of so many updates the matrix itself is kept"
            )

    def __init__(self, setting: Setting, options: SelfScaledOptions) -> None:
        super().__init__(setting, options)
        ranks = setting.objective.communicator
        self._method = SelfScaledMethod(
            options.name, options.line_search, ranks, setting.objective.threads, options.memory
        )

    def init(self, theta: Tensor) -> SelfScaledState:
        with self.setting.timer.phase("global"):
            return self._method.start(evaluate_point(self.setting.objective, theta))

    def step(self, state: SelfScaledState) -> tuple[SelfScaledState, Record]:
        was_fresh = state.is_fresh
        with self.setting.timer.phase("global"):
            new = self._method.step(self.setting.objective, state)
        n = self.setting.objective.parameters
        return new, _record(was_fresh, new, count_matrix(n, n, self.options.memory))

    def renew(self, state: SelfScaledState) -> SelfScaledState:
        with self.setting.timer.phase("global"):
            point = evaluate_point(self.setting.objective, state.point.theta)
            return self._method.move(state, point)

    def go_back(self, state: SelfScaledState, theta: Tensor) -> SelfScaledState:
        return self.init(theta)

    def describe(self) -> list[str]:
        n, ls = self.setting.objective.parameters, self.options.line_search
        ranks, memory = self.setting.objective.communicator.size, self.options.memory
        kept = f"anew after {memory} updates" if memory else f"{n} x {n} after {n // 2}"
        return [
            f"{self.options.name}, inverse Hessian as factors of its updates, {kept},"
            f" by rows over {ranks} ranks",
            f"strong Wolfe line search, c1 {ls.c1:g}, c2 {ls.c2:g},"
            " first trial from the last decrease",
        ]


def _record(was_fresh: bool, new: LBFGSState | SelfScaledState, update_cost: float) -> Record:
    """The record of a step from a state that remembered nothing (`was_fresh`), or did."""
    failed = Outcome.NO_DESCENT if was_fresh else Outcome.MEMORY_DROPPED
    outcome = Outcome.ACCEPTED if new.step_length else failed
    point = new.point
    return Record(point.loss, norm(point.gradient), new.step_length, 1, update_cost, outcome)
