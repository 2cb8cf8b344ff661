"""Steps 3 and 4 of APTS: a trial that raises the loss is shortened, and a trial is judged.

    forced decrease   while L(θ + s) > L(θ), j = 1 … 5:
                      s_j = (1 - j/5) c s_j-1 + (j/5) c Δ d,   c = shrinkʲ,  d of steepest descent
    control           ρ = (L(θ) - L(θ + s)) / predicted; s is taken if ρ ≥ η₁, and Δ follows ρ

Sources: Groß and Krause, ICS preprint 2009; forced decrease: Trotti, Cruz, Kopaničáková, Krause,
arXiv 2312.13677; nonmonotone: Angino et al., arXiv 2605.14860.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.trust_region.control import (
    RadiusOptions,
    estimate_rounding,
    find_reference_loss,
    judge,
)
from hpctrain.methods.trust_region.subproblem import Norm, follow_gradient, length
from hpctrain.objective import Evaluation, Point, Smooth

# Trials of a forced decrease; the last one is along -g alone.
FORCED_TRIALS = 5


@dataclass(frozen=True)
class Trial:
    """A trial step of APTS.

    Attributes:
        step: s (n,).
        predicted: Σ_p of the decreases of h_p, or -gᵀs of a forced step.
        evaluation: L at θ + s; None where no subdomain foresees a decrease.
        forced: s is no longer the sum of the subdomains' steps.
    """

    step: Tensor
    predicted: float
    evaluation: Evaluation | None
    forced: bool = False


def shorten(s: Tensor, radius: float, kind: Norm) -> Tensor:
    """s (n,), scaled to length Δ where it is longer."""
    size = length(s, kind)
    return s * (radius / size) if size > radius else s


def leave_trial(L: Smooth, point: Point, trial: Trial, radius: float) -> Trial:
    """The trial as it is: no decrease is forced."""
    return trial


@dataclass(frozen=True)
class ForcedDecrease:
    """Shortens a trial that raises the loss, and turns it towards -g.

    Attributes:
        shrink: c of the first shortened step.
        norm: in which steps are no longer than Δ.
    """

    shrink: float
    norm: Norm

    def __call__(self, L: Smooth, point: Point, trial: Trial, radius: float) -> Trial:
        """The first of at most five shortened trials that does not raise L, or the last one.

        Args:
            L: of the iteration's samples.
            point: θ with L and g.
            trial: s, of which L at θ + s may be unknown.
            radius: Δ.
        """
        for j in range(1, FORCED_TRIALS + 1):
            if trial.evaluation is not None and trial.evaluation.loss <= point.loss:
                break
            c, weight = self.shrink**j, j / FORCED_TRIALS
            descent = follow_gradient(point.gradient, c * radius, self.norm)
            s = (1 - weight) * c * trial.step + weight * descent
            trial = Trial(s, -dot(point.gradient, s), L.evaluate(point.theta + s), forced=True)
        return trial


@dataclass(frozen=True)
class Decision:
    """Whether a trial is taken, Δ for the next one, and how this one ended."""

    accepted: bool
    radius: float
    outcome: Outcome


class TrialControl(Protocol):
    """Step 4 of APTS."""

    def decide(
        self, point: Point, trial: Trial, radius: float, window: Sequence[float]
    ) -> Decision:
        """What becomes of a trial.

        Args:
            point: θ with L and g.
            trial: s, and L at θ + s.
            radius: Δ.
            window: of a nonmonotone acceptance (`control.slide_window`).
        """

    def describe(self) -> str:
        """The control in a few words."""


@dataclass(frozen=True)
class RatioControl:
    """Takes a trial by its ratio ρ; Δ follows ρ alone: a sum of steps seldom is as long as Δ.

    A forced trial is taken if it lowers the loss, and Δ shrinks. A trial that nothing contributed
    to is refused, and Δ shrinks, unless the gradient is zero, where nothing could contribute.
    """

    options: RadiusOptions

    def decide(
        self, point: Point, trial: Trial, radius: float, window: Sequence[float]
    ) -> Decision:
        o, found = self.options, trial.evaluation
        shrunk = max(o.shrink * radius, o.min_radius)
        if found is None:
            accepted, after = False, radius if norm(point.gradient) == 0 else shrunk
        elif trial.forced:
            accepted, after = found.loss < point.loss, shrunk
        else:
            rounding, reference = _estimate_rounding(point), find_reference_loss(window, point.loss)
            verdict = judge(
                point.loss, found.loss, trial.predicted, radius, radius, rounding, o, reference
            )
            accepted, after = verdict.accepted, verdict.radius
        at_least_radius = not accepted and radius <= o.min_radius
        return Decision(accepted, after, _name_outcome(point, trial, accepted, at_least_radius))

    def describe(self) -> str:
        return "accepted by its ratio"


@dataclass(frozen=True)
class NoTrialControl:
    """Takes every trial with a finite loss, and a forced one that lowers the loss; Δ stays."""

    options: RadiusOptions

    def decide(
        self, point: Point, trial: Trial, radius: float, window: Sequence[float]
    ) -> Decision:
        found, accepted = trial.evaluation, False
        if found is not None:
            accepted = found.loss < point.loss if trial.forced else math.isfinite(found.loss)
        at_least_radius = not accepted and radius <= self.options.min_radius
        return Decision(accepted, radius, _name_outcome(point, trial, accepted, at_least_radius))

    def describe(self) -> str:
        return "taken without control"


def _estimate_rounding(point: Point) -> float:
    return estimate_rounding(point.loss, point.theta.dtype)


def _name_outcome(point: Point, trial: Trial, accepted: bool, at_least_radius: bool) -> Outcome:
    if not trial.predicted > _estimate_rounding(point):
        return Outcome.NO_SUBDOMAIN_DECREASE
    if at_least_radius:
        return Outcome.LEAST_RADIUS
    if not accepted:
        return Outcome.REFUSED
    return Outcome.DECREASE_FORCED if trial.forced else Outcome.ACCEPTED
