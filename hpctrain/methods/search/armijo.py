"""Armijo backtracking, the search of MG/OPT: it looks at values only, not at slopes.

Source: Armijo, Pacific Journal of Mathematics 16 (1966); Nocedal and Wright, Numerical
Optimization (2006), algorithm 3.1.
"""

from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from hpctrain.methods.trust_region.control import estimate_rounding
from hpctrain.objective import Evaluation, Smooth
from hpctrain.options import Options


class ArmijoOptions(Options):
    """Constants of the sufficient decrease and of the trials."""

    c1: float = Field(1e-4, gt=0, lt=1, description="sufficient decrease, as part of the slope's")
    shrink: float = Field(0.5, gt=0, lt=1, description="factor of the step after a failed trial")
    max_trials: int = Field(15, ge=1, description="evaluations before a search gives up")


@dataclass(frozen=True)
class ArmijoStep:
    """An accepted α and the evaluation at θ + α d."""

    step: float
    evaluation: Evaluation


def armijo(
    objective: Smooth,
    theta: Tensor,
    direction: Tensor,
    loss: float,
    slope: float,
    choose_first_trial: float,
    options: ArmijoOptions,
    likely_trials: int = 1,
) -> ArmijoStep | None:
    """The first α of choose_first_trial · shrinkⁱ with L(θ + α d) ≤ L(θ) + c₁ α ∇L(θ)ᵀd.

    Where the slope foresees a decrease within the losses' rounding error, a loss as good as the
    old one is accepted: the values cannot tell more.

    Args:
        objective: L.
        theta, direction: θ and d, (n,).
        loss, slope: L(θ) and ∇L(θ)ᵀd.
        choose_first_trial: the α to try first.
        likely_trials: evaluate so many of the first trials with their gradient, in one pass.

    Returns:
        None if no trial is good enough or d does not descend.
    """
    if not slope < 0:
        return None
    step, rounding = choose_first_trial, estimate_rounding(loss, theta.dtype)
    for number in range(options.max_trials):
        evaluate = (
            objective.evaluate_with_gradient if number < likely_trials else objective.evaluate
        )
        trial = evaluate(theta + step * direction)
        allowed = rounding if -step * slope <= rounding else options.c1 * step * slope
        if trial.loss <= loss + allowed:
            return ArmijoStep(step, trial)
        step *= options.shrink
    return None
