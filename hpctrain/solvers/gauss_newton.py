"""Levenberg-Marquardt with corrected steps on the collocation points' residuals.

For L = (1/N) Σ_j r_j² with the Jacobian J of the residuals (N, n) at θ, B = (2/N) JᵀJ:

    (B + λ I) p = -∇L,   m(p) = (1/N) ‖r + J p‖²,
    q₀ = p,   (B + λ I) (q_{i+1} - q_i) = -((2/N) Jᵀ r(θ + q_i) + λ q_i),
    θ⁺ = θ + q,   ρ = (L(θ) - L(θ + q)) / (m(0) - m(p)),

where λ is the multiplier of a trust region: it falls where the model predicts well, and grows until
a step lowers the loss; the first step looks for it below the given one too (`damping`). Corrections
are simplified Newton steps for q in

    (2/N) Jᵀ r(θ + q) + λ q = 0,

the damped system with the residuals themselves for their linear model. They follow the curved
valley of the loss, each to one order further than the last, at the cost of an evaluation and a
solve with the factors that are there: q₁ = p + ½ a + O(‖p‖³) with the geodesic acceleration a of
Transtrum and Sethna. They end when one is small beside the step; a step is not tried if the first
is not smaller than p by the factor κ, and keeps those before one that is not smaller by κ than the
last. The system is solved in the form that costs least, from J without its square, or on a random
sketch of the residuals (`damped_systems`, `singular_values`). All ranks factor it together. Where a
step brings the loss down to a hundredth, others follow with the same J (`damping`), the minimum of
‖r + J d‖² + δ ‖d‖² from where it led to, corrected alike.

Sources: Moré, The Levenberg-Marquardt algorithm (1978); Transtrum and Sethna, Improvements to the
Levenberg-Marquardt algorithm for nonlinear least-squares minimization, arXiv 1201.5885 (2012);
simplified Newton: Deuflhard, Newton Methods for Nonlinear Problems (2004), section 2.1.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import norm
from hpctrain.methods.least_squares.damped_systems import (
    DampedSystem,
    DualSystem,
    Factored,
    PrimalSystem,
)
from hpctrain.methods.least_squares.damping import DampingOptions, DampingSearch, Proposal
from hpctrain.methods.least_squares.singular_values import SingularSystem
from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import Point, evaluate_point
from hpctrain.solvers.base import Need, Record, Setting, Solver

# Corrections end at this part of the step.
ENOUGH = 1e-3
CUTOFF = 1e-6


class GaussNewtonOptions(DampingOptions):
    """Settings of Levenberg-Marquardt."""

    name: Literal["gauss-newton"] = "gauss-newton"
    factorisation: Literal["gram", "qr"] = Field(
        "gram",
        description="of JᵀJ or J Jᵀ by Cholesky, or of J itself by Householder and σ; with"
        " subdomains of the columns of each, in whose orthonormal bases JᵀJ is then summed",
    )
    cutoff: float = Field(
        CUTOFF,
        gt=0,
        lt=1,
        description="of subdomains with qr: directions in one count as zero below this part of its"
        " largest column",
    )
    form: Literal["auto", "primal", "dual"] = Field(
        "auto", description="n x n, or R x R of R residuals; by default the smaller one"
    )
    sketch: int | None = Field(
        None, ge=1, description="rows of a random sketch of the residuals; by default none"
    )
    corrections: int = Field(
        8, ge=0, description="of a step, at most: each goes one order further; 0 for plain steps"
    )
    contraction: float = Field(
        0.75, gt=0, lt=1, description="κ, by which each correction is smaller than the one before"
    )
    control: Literal["ratio", "delayed"] = Field(
        "ratio", description="of λ: by ρ, or as small as still lowers the loss"
    )

    def grow(self, damping: float, refusals: int) -> float:
        return super().grow(damping, refusals) if self.control == "ratio" else 1.5 * damping

    def ease(self, damping: float, rho: float, decrease: float) -> float:
        return super().ease(damping, rho if self.control == "ratio" else 1.0, decrease)

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> "GaussNewtonOptions":
        if self.sketch is not None and self.form == "primal":
            raise ValueError('sketch is for form = "dual" or "auto"')
        if self.factorisation == "qr" and (self.sketch is not None or self.form != "auto"):
            raise ValueError('sketch and form are for factorisation = "gram"')
        if self.factorisation == "gram" and self.cutoff != CUTOFF:
            raise ValueError('cutoff is for factorisation = "qr"')
        return self


@dataclass
class GaussNewtonState:
    """θ with its loss and gradient, the damping λ, and the iterations so far."""

    point: Point
    damping: float
    iteration: int = 0


class GaussNewton(Solver[GaussNewtonState]):
    """Levenberg-Marquardt with the identity as scaling (see the module)."""

    names = ("gauss-newton",)
    Options = GaussNewtonOptions
    needs = frozenset({Need.RESIDUALS})

    @classmethod
    def check_needs(cls, setting: Setting, options: GaussNewtonOptions) -> None:
        super().check_needs(setting, options)
        if options.cutoff != CUTOFF and setting.objective.residuals.coupling is None:
            raise InputError("solver.cutoff is for networks of subdomains (network.subdomains)")

    def init(self, theta: Tensor) -> GaussNewtonState:
        with self.setting.timer.phase("global"):
            return GaussNewtonState(
                evaluate_point(self.setting.objective, theta), self.options.damping
            )

    def step(self, state: GaussNewtonState) -> tuple[GaussNewtonState, Record]:
        with self.setting.timer.phase("global"):
            return self._attempt_step(state)

    def _attempt_step(self, state: GaussNewtonState) -> tuple[GaussNewtonState, Record]:
        o, old, count = self.options, state.point, state.iteration + 1
        system = self._make_system(state)

        def propose(damping: float) -> Proposal | None:
            step = find_damped_step(system.factor(damping), o)
            return None if step is None else Proposal(step.total, step.predicted)

        def extend(damping: float, s: Tensor) -> Tensor | None:
            factored = system.factor(damping)
            if factored is None:
                return None
            return correct_step(factored, factored.compute_correction(s, s), s, o)

        search = DampingSearch(self.setting.objective, old, o, propose, extend)
        find = search.find if state.iteration else search.find_first
        found = find(state.damping)
        if found is None:
            # Another sketch may show a way down; the whole system that has none is at its end.
            outcome = Outcome.DAMPING_LIMIT if o.sketch is None else Outcome.SKETCH_EXHAUSTED
            record = Record(old.loss, norm(old.gradient), 0.0, 1, 1, outcome)
            return GaussNewtonState(old, state.damping, count), record
        new = found.point
        record = Record(new.loss, norm(new.gradient), norm(found.step), 1, 1)
        return GaussNewtonState(new, found.damping, count), record

    def _make_system(self, state: GaussNewtonState) -> DampedSystem:
        objective, theta = self.setting.objective, state.point.theta
        if self.options.factorisation == "qr":
            if objective.residuals.coupling is None:
                return SingularSystem(objective, theta)
            return PrimalSystem(objective, state.point, self.options.cutoff)
        if not self._is_dual:
            return PrimalSystem(objective, state.point)
        if self.options.sketch is None:
            return DualSystem.of_all_rows(objective, theta)
        rows, seed = self.options.sketch, self.setting.seed
        sketch = objective.residuals.sketch(theta, rows, seed, state.iteration)
        return DualSystem.of_sketch(objective, theta, sketch)

    @property
    def _is_dual(self) -> bool:
        o, objective = self.options, self.setting.objective
        if o.form == "auto" and objective.residuals.coupling is not None:
            return o.sketch is not None
        if o.form == "auto":
            return o.sketch is not None or objective.residuals.count < objective.parameters
        return o.form == "dual"

    def describe(self) -> list[str]:
        n, N = self.setting.objective.parameters, self.setting.objective.residuals.count
        o = self.options
        steps = f"{o.corrections} corrections of a step at most" if o.corrections else "plain"
        system = f"JᵀJ {n} x {n}" if not self._is_dual else f"J Jᵀ {N} x {N}"
        if o.sketch:
            system = f"a sketch of {o.sketch} rows of J"
        solved = f"{system} over all ranks, Cholesky"
        coupling = self.setting.objective.residuals.coupling
        if coupling is not None and not self._is_dual:
            pieces = len(coupling.all_pieces)
            solved = f"JᵀJ {n} x {n} of {pieces} x {pieces} blocks over all ranks, sparse Cholesky"
        if coupling is not None and o.factorisation == "qr":
            solved += ", by orthonormal columns in each"
        elif o.factorisation == "qr":
            solved = f"R of J {N} x {n} by a tree over all ranks, singular values"
        control = "the ratio of decreases" if o.control == "ratio" else "what still lowers the loss"
        return [
            f"gauss-newton: Levenberg-Marquardt, {steps}, {solved}",
            f"damping {o.damping:g} at first, controlled by {control}",
        ]


@dataclass(frozen=True)
class DampedStep:
    """The velocity p (n,), the corrected step q (n,), and the decrease m(0) - m(p).

    There is no q where the first correction is too long.
    """

    p: Tensor
    total: Tensor | None
    predicted: float


def find_damped_step(factored: Factored | None, options: GaussNewtonOptions) -> DampedStep | None:
    """The step for one λ; None where the system is singular in rounding or promises nothing."""
    if factored is None:
        return None
    p = factored.compute_velocity()
    predicted = factored.predict_decrease(p)
    if not predicted > 0:
        return None
    return DampedStep(p, correct_step(factored, p, torch.zeros_like(p), options), predicted)


def correct_step(
    factored: Factored, p: Tensor, start: Tensor, options: GaussNewtonOptions
) -> Tensor | None:
    """The corrected step q (n,) for p (n,) from θ + `start`; None if the first one is too long."""
    q, last = p, norm(p)
    for number in range(options.corrections):
        d = factored.compute_correction(start + q, start)
        size = norm(d)
        if not size <= options.contraction * last:
            return None if number == 0 else q
        q, last = q + d, size
        if size <= ENOUGH * norm(q):
            break
    return q
