"""Steps of self-scaled BFGS and Broyden methods, alone or as a part of another method."""

import math
from dataclasses import dataclass

from torch import Tensor

from hpctrain.linalg.vectors import dot
from hpctrain.methods.quasi_newton.inverse_hessian import SCALINGS, InverseHessian
from hpctrain.methods.quasi_newton.secant_pairs import is_safe
from hpctrain.methods.search.strong_wolfe import LineSearchOptions, choose_first_trial, strong_wolfe
from hpctrain.objective import Objective, Point, complete_point
from hpctrain.parallel.communicator import Communicator


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
    """Steps of self-scaled BFGS or Broyden (formulas: `inverse_hessian`).

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

    def move(self, state: SelfScaledState, point: Point) -> SelfScaledState:
        """H at another point; the next first trial expects the decrease of the last step again."""
        moved = self.start(point, state.H)
        if state.previous_loss is not None:
            moved.previous_loss = point.loss + (state.previous_loss - state.point.loss)
        return moved

    def step(self, objective: Objective, state: SelfScaledState) -> SelfScaledState:
        """θ⁺ = θ - a H ∇L(θ) with the pair's update of H; where no step is found, H = I again."""
        old, p = state.point, -state.Hg
        slope = dot(old.gradient, p)
        trial = choose_first_trial(old.loss, state.previous_loss, slope)
        found = strong_wolfe(objective, old.theta, p, old.loss, slope, trial, self.line_search)
        if found.evaluation is None:
            return self.start(old)
        new = complete_point(found.evaluation)
        H, Hg = self._update(state, new, found.step)
        return SelfScaledState(new, H, Hg, old.loss, found.step)

    def _update(
        self, state: SelfScaledState, new: Point, a: float
    ) -> tuple[InverseHessian, Tensor]:
        """H⁺ and H⁺ g⁺ (n,), with one product by H."""
        H, g, g_new = state.H, state.point.gradient, new.gradient
        s, y = new.theta - state.point.theta, g_new - g
        Hg_new = H.multiply(g_new, self.ranks, self.threads)
        ys = dot(y, s)
        if not (is_safe(s, y) and ys**2 > 0):  # the update divides by the square too
            return H, Hg_new
        Hg, sBs = state.Hg, -a * dot(s, g)
        if H.is_identity or len(H.factors) == self.memory:
            # The first update: H is scaled by sᵀy / yᵀy before it.
            factor = ys / dot(y, y)
            H = InverseHessian(factor)
            Hg, Hg_new, sBs = factor * g, factor * g_new, dot(s, s) / factor
        Hy = Hg_new - Hg
        h, b = dot(y, Hy) / ys, sBs / ys
        if not (0 < h < math.inf and b > 0):  # in rounding
            return H, Hg_new
        return H.update(s, y, Hy, SCALINGS[self.name](h, b, len(g)), Hg_new, g_new)
