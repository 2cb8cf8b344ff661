"""A local phase: some trust-region steps on one function, within a budget of length.

    for i = 1 … n:   s_i ≈ argmin m_i(s), ‖s‖ ≤ min(Δ, what is left of the budget)
                     θ ← θ + s_i if ρ_i ≥ η₁;  Δ follows ρ_i

By the triangle inequality the sum of the steps keeps the budget. The subdomains of APTS, the coarse
model of ASTROM and the levels of RMTR are all minimised by such phases. They differ in arguments:

    limit     `Budget`, ‖Σ s_i‖ ≤ β, in APTS and ASTROM; in RMTR ‖I Σ s_i‖ ≤ Δ of the finer level,
              counted from where the level was entered, and the phase ends where more of it is left
    rule      Δ ≤ β in APTS; the method's own limits of Δ in ASTROM and RMTR
    keeps_gradient   not in APTS, which adds up steps and needs no gradient at their ends

Sources: Groß and Krause 2009 (APTS); Gratton, Sartenaer, Toint, SIAM Journal on Optimization 19
(2008), with the limit on coarse steps of Kopaničáková and Krause, arXiv 2107.07572 (RMTR).
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.control import AT_BOUNDARY
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.methods.trust_region.subproblem import Norm, length
from hpctrain.objective import Point, Smooth


@dataclass(frozen=True)
class Phase:
    """Where a local phase stands.

    Attributes:
        point: θ with h and ∇h; without `keeps_gradient` its last ∇h may be that of an earlier θ.
        step: Σ s_i (n,) of the steps taken.
        radius: Δ of the next step, whatever is left of the budget.
        pairs: what L-SR1 knows of h.
        trials: so far, refused ones included.
        finite: trials with a finite h.
        outcome: of the last trial.
    """

    point: Point
    step: Tensor
    radius: float
    pairs: LSR1
    trials: int = 0
    finite: int = 0
    outcome: Outcome = Outcome.ACCEPTED


class Limit(Protocol):
    """How far a phase may go.

    Attributes:
        least: a phase ends where no more than this is left.
    """

    @property
    def least(self) -> float: ...

    def find_room(self, phase: Phase) -> float:
        """The longest step that surely keeps the limit."""


@dataclass(frozen=True)
class Budget:
    """‖Σ s_i‖ ≤ β; the phase ends where less than SPENT of it is left.

    Attributes:
        most: β.
        norm: of the steps.
    """

    SPENT: ClassVar[float] = 1 - AT_BOUNDARY

    most: float
    norm: Norm = 2

    @property
    def least(self) -> float:
        return self.SPENT * self.most

    def find_room(self, phase: Phase) -> float:
        return self.most - length(phase.step, self.norm)


def run_local_phase(
    h: Smooth,
    start: Point,
    radius: float,
    pairs: LSR1,
    steps: int,
    limit: Limit,
    rule: TrialRule,
    keeps_gradient: bool = True,
) -> Phase:
    """Makes at most `steps` trial steps on h that keep the limit; collective.

    The phase ends early where the limit is reached, the gradient is zero, or an outcome is final.

    Args:
        h: the function that is minimised.
        start: θ with h and ∇h there.
        radius: Δ of the first step.
        pairs: what L-SR1 knows of h.
        steps: trial steps at most, refused ones included.
        limit: of the sum of the steps.
        rule: of the steps.
        keeps_gradient: evaluate ∇h at the end of the phase, too.
    """
    phase = Phase(start, torch.zeros_like(start.theta), radius, pairs)
    for last in (i == steps - 1 for i in range(steps)):
        left = limit.find_room(phase)
        if left <= limit.least:
            break
        if norm(phase.point.gradient) == 0:
            return replace(phase, outcome=Outcome.NO_DECREASE_FORESEEN)
        phase = _step(h, phase, left, rule, gradient_needed=keeps_gradient or not last)
        if phase.outcome.is_final:
            break
    return phase


def _step(h: Smooth, phase: Phase, left: float, rule: TrialRule, gradient_needed: bool) -> Phase:
    """One trial step of a phase, no longer than what is left."""
    point, model = phase.point, rule.model
    B = model.make_curvature(h, point.theta, phase.pairs)
    evaluate = model.choose_evaluation(h, gradient_needed)
    tried = rule.attempt(evaluate, point, B, min(phase.radius, left))
    trial, before = tried.trial, phase.radius
    phase = replace(
        phase,
        radius=tried.radius,
        pairs=model.learn(
            phase.pairs, tried.step, lambda: trial.evaluate_gradient() - point.gradient
        ),
        trials=phase.trials + 1,
        finite=phase.finite + math.isfinite(trial.loss),
        outcome=tried.outcome,
    )
    if not tried.accepted:
        return phase
    gradient = trial.evaluate_gradient() if gradient_needed else point.gradient
    return replace(
        phase,
        point=Point(trial.theta, trial.loss, gradient),
        step=phase.step + tried.step,
        # What the limit cut short says nothing against a longer step.
        radius=max(before, tried.radius),
    )
