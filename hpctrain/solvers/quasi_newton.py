"""Undecomposed quasi-Newton training: L-BFGS with momentum, self-scaled (SS) BFGS and Broyden."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.globalization.line_search import LineSearchOptions, first_trial, strong_wolfe
from hpctrain.objective import Objective
from hpctrain.options import Options
from hpctrain.quasi_newton.broyden import SCALINGS, InverseHessian
from hpctrain.quasi_newton.lbfgs import SAFE_CURVATURE, SecantPairs
from hpctrain.solvers.base import Point, Record, Solver, evaluate
from hpctrain.vectors import dot, norm

# Momentum is dropped where gᵀv > -DESCENT ‖g‖‖v‖.
DESCENT = 1e-10


class LBFGSOptions(Options):
    """Settings of L-BFGS."""

    name: Literal["lbfgs"] = "lbfgs"
    memory: int = Field(3, ge=1, description="secant pairs kept, m")
    momentum: float = Field(0.9, gt=0, le=1, description="weight of the new direction; 1 is none")
    line_search: LineSearchOptions = LineSearchOptions()


@dataclass
class LBFGSState:
    """θ, the secant pairs, the velocity v (n,) of the momentum, and the last step length."""

    point: Point
    pairs: SecantPairs = field(default_factory=SecantPairs)
    velocity: Tensor | None = None
    step_length: float = 0.0


def lbfgs_step(
    objective: Objective,
    state: LBFGSState,
    memory: int,
    momentum: float,
    line_search: LineSearchOptions,
) -> LBFGSState:
    """One step of L-BFGS with momentum from a point whose gradient is known.

        p = -H ∇L(θ);  v ← (1-μ) v + μ p;  θ⁺ = θ + β v, β by strong Wolfe, first trial 1

    and the pair (θ⁺ - θ, ∇L(θ⁺) - ∇L(θ)). If v is no descent direction it is reset to p. Where
    the search fails θ stays, the pairs and the velocity are forgotten, and the step length is 0.
    Source: Kopaničáková et al. 2024, algorithm 4.1, steps 3 to 7.
    """
    theta, g = state.point.theta, state.point.gradient
    p = -state.pairs.inverse_hessian_product(g)
    v = p if state.velocity is None else (1 - momentum) * state.velocity + momentum * p
    if dot(g, v) > -DESCENT * norm(g) * norm(v):
        v = p
    slope = dot(g, v)
    found = strong_wolfe(objective, theta, v, state.point.loss, slope, 1.0, line_search)
    if found.evaluation is None:
        return LBFGSState(state.point)
    new = Point(found.evaluation.theta, found.evaluation.loss, found.evaluation.gradient)
    pairs = SecantPairs(state.pairs.s, state.pairs.y)
    pairs.store(new.theta - theta, new.gradient - g, memory)
    return LBFGSState(new, pairs, v, found.step)


class LBFGS(Solver[LBFGSState]):
    """L-BFGS with momentum (Nocedal and Wright 2006, chapter 7; momentum as in `lbfgs_step`)."""

    def init(self, theta: Tensor) -> LBFGSState:
        with self.setting.timer.phase("global"):
            return LBFGSState(evaluate(self.setting.objective, theta))

    def step(self, state: LBFGSState) -> tuple[LBFGSState, Record]:
        o = self.options
        with self.setting.timer.phase("global"):
            new = lbfgs_step(self.setting.objective, state, o.memory, o.momentum, o.line_search)
        stalled = new.step_length == 0 and not state.pairs.s
        return new, Record(new.point.loss, norm(new.point.gradient), new.step_length, 1, 1, stalled)

    def describe(self) -> list[str]:
        o = self.options
        return [
            f"L-BFGS, {o.memory} secant pairs, momentum {o.momentum:g}",
            f"strong Wolfe line search, c1 {o.line_search.c1:g}, c2 {o.line_search.c2:g}",
        ]


class SelfScaledOptions(Options):
    """Settings of SSBFGS and SSBroyden."""

    name: Literal["ssbfgs", "ssbroyden"] = "ssbroyden"
    line_search: LineSearchOptions = LineSearchOptions()


@dataclass
class SelfScaledState:
    """θ, H by rows, H ∇L(θ) (n,), and what the next first trial step is taken from."""

    point: Point
    H: InverseHessian
    Hg: Tensor
    previous_loss: float | None = None


class SelfScaled(Solver[SelfScaledState]):
    """Self-scaled BFGS and Broyden with a dense inverse Hessian (formulas: `quasi_newton.broyden`).

    Sources: Urbán, Stefanou, Pons, arXiv 2405.04230; Kiyani et al., arXiv 2501.16371.
    """

    def init(self, theta: Tensor) -> SelfScaledState:
        with self.setting.timer.phase("global"):
            point = evaluate(self.setting.objective, theta)
            return SelfScaledState(point, InverseHessian(), point.gradient.clone())

    def step(self, state: SelfScaledState) -> tuple[SelfScaledState, Record]:
        with self.setting.timer.phase("global"):
            return self._step(state)

    def _step(self, state: SelfScaledState) -> tuple[SelfScaledState, Record]:
        objective, old = self.setting.objective, state.point
        p = -state.Hg
        slope = dot(old.gradient, p)
        trial = first_trial(old.loss, state.previous_loss, slope)
        found = strong_wolfe(
            objective, old.theta, p, old.loss, slope, trial, self.options.line_search
        )
        if found.evaluation is None:
            return self._restart(state)
        new = Point(found.evaluation.theta, found.evaluation.loss, found.evaluation.gradient)
        Hg = self._update(state, new, found.step)
        record = Record(new.loss, norm(new.gradient), found.step, 1, 1)
        return SelfScaledState(new, state.H, Hg, old.loss), record

    def _update(self, state: SelfScaledState, new: Point, a: float) -> Tensor:
        """H⁺ (pending in `state.H`) and H⁺ g⁺ (n,), with one product by H."""
        H, g, g_new = state.H, state.point.gradient, new.gradient
        s, y = new.theta - state.point.theta, g_new - g
        Hg_new = H.multiply(g_new, self.setting.objective.communicator, self.setting.threads)
        ys = dot(y, s)
        if not ys > SAFE_CURVATURE * norm(y) * norm(s):
            return Hg_new
        Hg, sBs = state.Hg, -a * dot(s, g)
        if H.is_identity:  # the first update: H is scaled by sᵀy / yᵀy before it
            factor = ys / dot(y, y)
            H.set_identity(factor)
            Hg, Hg_new, sBs = factor * g, factor * g_new, dot(s, s) / factor
        Hy = Hg_new - Hg
        h, b = dot(y, Hy) / ys, sBs / ys
        scaling = SCALINGS[self.options.name](h, b, len(g))
        return H.update(s, y, Hy, scaling, Hg_new, g_new)

    def _restart(self, state: SelfScaledState) -> tuple[SelfScaledState, Record]:
        """No step was found: go on from H = I, unless that was H already."""
        fresh = state.H.is_identity
        point = state.point
        record = Record(point.loss, norm(point.gradient), 0.0, 1, 1, stalled=fresh)
        return SelfScaledState(point, InverseHessian(), point.gradient.clone()), record

    def describe(self) -> list[str]:
        n, ls = self.setting.objective.parameters, self.options.line_search
        ranks = self.setting.objective.communicator.size
        return [
            f"{self.options.name}, dense inverse Hessian {n} x {n} by rows over {ranks} ranks",
            f"strong Wolfe line search, c1 {ls.c1:g}, c2 {ls.c2:g},"
            " first trial from the last decrease",
        ]
