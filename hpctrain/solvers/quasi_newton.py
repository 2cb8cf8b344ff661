"""Undecomposed quasi-Newton training: L-BFGS with momentum, self-scaled (SS) BFGS and Broyden."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.quasi_newton.inverse_hessian import SCALINGS, InverseHessian
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs, is_safe
from hpctrain.methods.search.strong_wolfe import LineSearchOptions, first_trial, strong_wolfe
from hpctrain.objective.evaluation import Objective, Smooth
from hpctrain.options import Options
from hpctrain.parallel.communicator import Communicator
from hpctrain.solvers.base import Point, Record, Setting, Solver, evaluate, point_of

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

    @property
    def is_fresh(self) -> bool:
        """Whether nothing is remembered, so that a failed step leaves nothing to try."""
        return not self.pairs.s


def lbfgs_step(
    objective: Smooth,
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
    new = point_of(found.evaluation)
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
        stalled = new.step_length == 0 and state.is_fresh
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
    memory: int | None = Field(
        None, ge=1, description="updates kept, then H starts anew; by default all are"
    )
    line_search: LineSearchOptions = LineSearchOptions()


@dataclass
class SelfScaledState:
    """θ, H by rows, H ∇L(θ) (n,), and what the next first trial step is taken from."""

    point: Point
    H: InverseHessian
    Hg: Tensor
    previous_loss: float | None = None
    step_length: float = 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether H is still I, so that a failed step leaves nothing to try."""
        return self.H.is_identity


@dataclass(frozen=True)
class SelfScaledMethod:
    """Steps of self-scaled BFGS or Broyden (formulas: `quasi_newton.broyden`).

    Attributes:
        name: the scaling, of `SCALINGS`.
        line_search: constants of the search.
        ranks: those that share the rows of H.
        threads: of this rank, for products by H.
        memory: H starts anew when it has so many updates; None if it never does.
    """

    name: str
    line_search: LineSearchOptions
    ranks: Communicator
    threads: int
    memory: int | None = None

    def start(self, point: Point, H: InverseHessian | None = None) -> SelfScaledState:
        """The state at a point, from H = I or from an H that was learnt before."""
        H = InverseHessian() if H is None else H
        return SelfScaledState(point, H, H.multiply(point.gradient, self.ranks, self.threads))

    def step(self, objective: Objective, state: SelfScaledState) -> SelfScaledState:
        """θ⁺ = θ - a H ∇L(θ) with the pair's update of H; where no step is found, H = I again."""
        old, p = state.point, -state.Hg
        slope = dot(old.gradient, p)
        trial = first_trial(old.loss, state.previous_loss, slope)
        found = strong_wolfe(objective, old.theta, p, old.loss, slope, trial, self.line_search)
        if found.evaluation is None:
            return self.start(old)
        new = point_of(found.evaluation)
        Hg = self._update(state, new, found.step)
        return SelfScaledState(new, state.H, Hg, old.loss, found.step)

    def _update(self, state: SelfScaledState, new: Point, a: float) -> Tensor:
        """H⁺ (pending in `state.H`) and H⁺ g⁺ (n,), with one product by H."""
        H, g, g_new = state.H, state.point.gradient, new.gradient
        s, y = new.theta - state.point.theta, g_new - g
        Hg_new = H.multiply(g_new, self.ranks, self.threads)
        if not is_safe(s, y):
            return Hg_new
        ys = dot(y, s)
        Hg, sBs = state.Hg, -a * dot(s, g)
        if H.is_identity or len(H.factors) == self.memory:
            # The first update: H is scaled by sᵀy / yᵀy before it.
            factor = ys / dot(y, y)
            H.set_identity(factor)
            Hg, Hg_new, sBs = factor * g, factor * g_new, dot(s, s) / factor
        Hy = Hg_new - Hg
        h, b = dot(y, Hy) / ys, sBs / ys
        if not (h > 0 and b > 0):  # in rounding
            return Hg_new
        scaling = SCALINGS[self.name](h, b, len(g))
        return H.update(s, y, Hy, scaling, Hg_new, g_new, self.ranks)


class SelfScaled(Solver[SelfScaledState]):
    """Self-scaled BFGS and Broyden, with the inverse Hessian by rows over all ranks.

    Sources: Urbán, Stefanou, Pons, arXiv 2405.04230; Kiyani et al., arXiv 2501.16371.
    """

    def __init__(self, setting: Setting, options: SelfScaledOptions) -> None:
        super().__init__(setting, options)
        ranks = setting.objective.communicator
        self._method = SelfScaledMethod(
            options.name, options.line_search, ranks, setting.threads, options.memory
        )

    def init(self, theta: Tensor) -> SelfScaledState:
        with self.setting.timer.phase("global"):
            return self._method.start(evaluate(self.setting.objective, theta))

    def step(self, state: SelfScaledState) -> tuple[SelfScaledState, Record]:
        was_fresh = state.is_fresh
        with self.setting.timer.phase("global"):
            new = self._method.step(self.setting.objective, state)
        stalled = new.step_length == 0 and was_fresh
        return new, Record(new.point.loss, norm(new.point.gradient), new.step_length, 1, 1, stalled)

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
