"""Levenberg-Marquardt: damped Gauss-Newton steps on the collocation points' residuals.

For L = (1/N) Σ_j r_j² with the Jacobian J of the residuals (N, n),

    (2/N) (JᵀJ + λ I) p = -∇L,   ∇L = (2/N) Jᵀ r,
    ρ = (L(θ) - L(θ+p)) / (m(0) - m(p)),   m(p) = (1/N) ‖r + J p‖²,

where λ is the multiplier of a trust region ‖p‖ ≤ Δ: it falls where the model predicts well, and
grows until a step lowers the loss. J is never stored: its rows come in blocks of points, and only
JᵀJ is kept, summed over the ranks. Every rank solves the same system.

Sources: Levenberg (1944); Marquardt (1963); Moré, The Levenberg-Marquardt algorithm (1978); Nocedal
and Wright, Numerical Optimization (2006), section 10.3.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.objective import NormalEquations
from hpctrain.options import Options
from hpctrain.solvers.base import Point, Record, Solver, evaluate
from hpctrain.vectors import dot, norm


class GaussNewtonOptions(Options):
    """Settings of Levenberg-Marquardt."""

    name: Literal["gauss-newton"] = "gauss-newton"
    damping: float = Field(1e-2, gt=0, description="λ at the start, beside (2/N) JᵀJ")
    least_damping: float = Field(1e-15, gt=0, description="λ is not made smaller")
    greatest_damping: float = Field(1e6, gt=0, description="λ beyond which no step is looked for")
    accept: float = Field(1e-4, ge=0, lt=1, description="a step is taken if ρ is above")
    good: float = Field(0.25, gt=0, lt=1, description="λ is halved if ρ is above")
    very_good: float = Field(0.75, gt=0, lt=1, description="λ is divided by 5 if ρ is above")


@dataclass
class GaussNewtonState:
    """θ with its loss and gradient, and the damping λ."""

    point: Point
    damping: float


class GaussNewton(Solver[GaussNewtonState]):
    """Levenberg-Marquardt with the identity as scaling (see the module)."""

    def init(self, theta: Tensor) -> GaussNewtonState:
        with self.setting.timer.phase("global"):
            return GaussNewtonState(evaluate(self.setting.objective, theta), self.options.damping)

    def step(self, state: GaussNewtonState) -> tuple[GaussNewtonState, Record]:
        with self.setting.timer.phase("global"):
            return self._step(state)

    def _step(self, state: GaussNewtonState) -> tuple[GaussNewtonState, Record]:
        o, objective, old = self.options, self.setting.objective, state.point
        system = objective.normal_equations(old.theta)
        damping, growth = state.damping, 2.0
        while damping <= o.greatest_damping:
            p = damped_step(system, damping)
            trial = None if p is None else objective.at(old.theta + p)
            if p is not None and trial is not None and trial.loss < old.loss:
                rho = (old.loss - trial.loss) / predicted_decrease(system, p)
                if rho > o.accept:
                    point = Point(trial.theta, trial.loss, trial.gradient)
                    damping = max(damping * self._factor(rho), o.least_damping)
                    record = Record(point.loss, norm(point.gradient), norm(p), 1, 1)
                    return GaussNewtonState(point, damping), record
            damping, growth = damping * growth, 2 * growth
        record = Record(old.loss, norm(old.gradient), 0.0, 1, 1, stalled=True)
        return GaussNewtonState(old, state.damping), record

    def _factor(self, rho: float) -> float:
        if rho > self.options.very_good:
            return 0.2
        return 0.5 if rho > self.options.good else 1.0

    def describe(self) -> list[str]:
        n, o = self.setting.objective.parameters, self.options
        return [
            f"gauss-newton: Levenberg-Marquardt, JᵀJ {n} x {n} on every rank, Cholesky",
            f"damping {o.damping:g} at first, controlled by the ratio of decreases",
        ]


def damped_step(system: NormalEquations, damping: float) -> Tensor | None:
    """p (n,) of (B + λ I) p = -g; None where B + λ I is not positive definite in rounding."""
    B = system.hessian.clone()
    B.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(B)
    if int(failed):
        return None
    return -torch.cholesky_solve(system.gradient[:, None], factor)[:, 0]


def predicted_decrease(system: NormalEquations, p: Tensor) -> float:
    """m(0) - m(p) = -gᵀp - ½ pᵀBp; B's lower triangle is enough."""
    B = system.hessian
    lower = torch.mv(torch.tril(B), p)
    pBp = 2 * dot(p, lower) - dot(p, B.diagonal() * p)
    return -dot(system.gradient, p) - 0.5 * pBp
