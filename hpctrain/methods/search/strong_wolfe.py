"""Strong-Wolfe line search that evaluates gradients only where they are needed.

Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 3.5 and 3.6, with one loop in
place of the two: `low` is the best point so far, `high` the other end of the bracket. A trial's
slope, which costs a gradient, is asked for only after its value gives sufficient decrease; only a
first trial that is likely to be accepted is evaluated with its gradient at once. All branches are
taken on values that are equal on all ranks, so that the ranks cannot part.
"""

import math
from dataclasses import dataclass
from enum import Enum

from pydantic import Field
from torch import Tensor

from hpctrain.linalg.vectors import dot
from hpctrain.objective import Evaluation, Smooth
from hpctrain.options import Options

# A trial lies at least this fraction of the bracket away from its ends.
SAFEGUARD = 0.1
# Without a bracket the step grows by at least and at most these factors.
GROWTH = (2.0, 10.0)
# A bracket narrower than this fraction of its upper end is exhausted.
NARROWEST = 1e-12


class LineSearchOptions(Options):
    """Constants of the strong Wolfe conditions."""

    c1: float = Field(1e-4, gt=0, lt=1, description="sufficient decrease (Armijo)")
    c2: float = Field(0.9, gt=0, lt=1, description="curvature")
    max_trials: int = Field(25, ge=1, description="evaluations before a search gives up")


class SearchOutcome(Enum):
    """How a search ended."""

    WOLFE = "both Wolfe conditions hold"
    DECREASE = "sufficient decrease only: trials exhausted"
    FAILED = "no trial gave sufficient decrease"


@dataclass(frozen=True)
class SearchResult:
    """The accepted step and the evaluation there; step 0 and no evaluation where none was found."""

    step: float
    evaluation: Evaluation | None
    trials: int
    outcome: SearchOutcome


class _Trial:
    """φ(α) = L(θ + α d); the slope φ'(α) = ∇Lᵀd is evaluated when it is first asked for."""

    def __init__(self, step: float, evaluation: Evaluation, direction: Tensor) -> None:
        self.step = step
        self.evaluation: Evaluation | None = evaluation
        self.loss = evaluation.loss if math.isfinite(evaluation.loss) else math.inf
        self.known_slope: float | None = None
        self._direction = direction

    @property
    def slope(self) -> float:
        if self.known_slope is None:
            assert self.evaluation is not None
            self.known_slope = dot(self.evaluation.evaluate_gradient(), self._direction)
        return self.known_slope


class _Start:
    """φ at α = 0, whose value and slope are known."""

    def __init__(self, loss: float, slope: float) -> None:
        self.step, self.loss, self.slope, self.known_slope = 0.0, loss, slope, slope
        self.evaluation = None


_Point = _Trial | _Start


def strong_wolfe(
    objective: Smooth,
    theta: Tensor,
    direction: Tensor,
    loss: float,
    slope: float,
    choose_first_trial: float,
    options: LineSearchOptions,
    first_is_likely: bool = True,
) -> SearchResult:
    """Searches a step α along d with the strong Wolfe conditions.

        L(θ + α d) ≤ L(θ) + c₁ α ∇L(θ)ᵀd   and   |∇L(θ + α d)ᵀd| ≤ c₂ |∇L(θ)ᵀd|

    Args:
        objective: L.
        theta, direction: θ and d, (n,).
        loss, slope: L(θ) and ∇L(θ)ᵀd, the latter negative.
        choose_first_trial: the α to try first.
        options: c₁, c₂ and the number of trials.
        first_is_likely: evaluate the first trial with its gradient, in one pass.
    """
    if not slope < 0:
        return SearchResult(0.0, None, 0, SearchOutcome.FAILED)
    start = _Start(loss, slope)
    low: _Point = start
    high: _Point | None = None
    step, trials = choose_first_trial, 0
    while trials < options.max_trials and not _is_exhausted(low, high):
        evaluate = (
            objective.evaluate_with_gradient
            if first_is_likely and not trials
            else objective.evaluate
        )
        trial = _Trial(step, evaluate(theta + step * direction), direction)
        trials += 1
        # Strictly below as well: at round-off the Armijo bound equals the loss itself.
        decreased = trial.loss < loss and trial.loss <= loss + options.c1 * step * slope
        if not decreased or (low is not start and trial.loss >= low.loss):
            high = trial
        else:
            if abs(trial.slope) <= -options.c2 * slope:
                return SearchResult(step, trial.evaluation, trials, SearchOutcome.WOLFE)
            beyond = math.inf if high is None else high.step - low.step
            if trial.slope * beyond >= 0:
                high = low
            previous, low = low, trial
        step = _extrapolate(previous, low) if high is None else _interpolate(low, high)
    if low is start:
        return SearchResult(0.0, None, trials, SearchOutcome.FAILED)
    return SearchResult(low.step, low.evaluation, trials, SearchOutcome.DECREASE)


def choose_first_trial(loss: float, previous_loss: float | None, slope: float) -> float:
    """The first α to try, min(1, 2 (f_k - f_{k-1}) / φ'(0)); 1 without a step before or a slope.

    It expects the decrease of the last step again (Nocedal and Wright, equation 3.60).
    """
    if previous_loss is None or not previous_loss > loss or not slope < 0:
        return 1.0
    return min(1.0, 2 * (loss - previous_loss) / slope)


def _is_exhausted(low: _Point, high: _Point | None) -> bool:
    return high is not None and abs(high.step - low.step) <= NARROWEST * max(low.step, high.step)


def _extrapolate(previous: _Point, low: _Point) -> float:
    """A larger step, where the slope is still steep and nothing bounds it yet."""
    step = _find_cubic_minimum(previous, low)
    smallest, largest = (factor * low.step for factor in GROWTH)
    return smallest if step is None else min(max(step, smallest), largest)


def _interpolate(low: _Point, high: _Point) -> float:
    """A step inside the bracket: the minimum of a cubic, or of a parabola without a slope there."""
    width = high.step - low.step
    if not math.isfinite(high.loss):
        return low.step + SAFEGUARD * width
    if high.known_slope is not None:
        step = _find_cubic_minimum(low, high)
    else:
        curvature = high.loss - low.loss - low.slope * width
        step = low.step - 0.5 * low.slope * width**2 / curvature if curvature > 0 else None
    if step is None:
        return low.step + 0.5 * width
    fraction = (step - low.step) / width
    return low.step + min(max(fraction, SAFEGUARD), 1 - SAFEGUARD) * width


def _find_cubic_minimum(a: _Point, b: _Point) -> float | None:
    """The minimum of the cubic through two values and slopes (N&W, equation 3.59)."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.step - b.step)
    square = d1**2 - a.slope * b.slope
    if not square >= 0:
        return None
    d2 = math.copysign(math.sqrt(square), b.step - a.step)
    denominator = b.slope - a.slope + 2 * d2
    if denominator == 0:
        return None
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / denominator
