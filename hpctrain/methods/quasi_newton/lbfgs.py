"""Steps of L-BFGS with momentum, alone or as a part of another method."""

from dataclasses import dataclass, field

from torch import Tensor

from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.search.strong_wolfe import LineSearchOptions, strong_wolfe
from hpctrain.objective import Point, Smooth, complete_point

# Momentum is dropped where gᵀv > -DESCENT ‖g‖‖v‖.
DESCENT = 1e-10


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
    p = -state.pairs.multiply_inverse_hessian(g)
    v = p if state.velocity is None else (1 - momentum) * state.velocity + momentum * p
    if dot(g, v) > -DESCENT * norm(g) * norm(v):
        v = p
    slope = dot(g, v)
    found = strong_wolfe(objective, theta, v, state.point.loss, slope, 1.0, line_search)
    if found.evaluation is None:
        return LBFGSState(state.point)
    new = complete_point(found.evaluation)
    pairs = SecantPairs(state.pairs.s, state.pairs.y)
    pairs.store(new.theta - theta, new.gradient - g, memory)
    return LBFGSState(new, pairs, v, found.step)
