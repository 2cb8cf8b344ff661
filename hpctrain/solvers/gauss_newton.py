"""Levenberg-Marquardt with geodesic acceleration on the collocation points' residuals.

For L = (1/N) Σ_j r_j² with the Jacobian J of the residuals (N, n), B = (2/N) JᵀJ:

    (B + λ I) p = -∇L,   (B + λ I) a = -(2/N) Jᵀ r_pp,   θ⁺ = θ + p + ½ a,
    ρ = (L(θ) - L(θ⁺)) / (m(0) - m(p)),   m(p) = (1/N) ‖r + J p‖²,

where λ is the multiplier of a trust region: it falls where the model predicts well, and grows until
a step lowers the loss. The acceleration a follows the curvature of the residuals along p (r_pp, by
differences), where the valley of the loss bends; a step is tried only if 2 ‖a‖ ≤ α ‖p‖. J is never
stored: its rows come in blocks of points, and only JᵀJ is kept, summed over the ranks. Every rank
solves the same system.

Sources: Moré, The Levenberg-Marquardt algorithm (1978); Transtrum and Sethna, Improvements to the
Levenberg-Marquardt algorithm for nonlinear least-squares minimization, arXiv 1201.5885 (2012).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.objective import NormalEquations, Objective
from hpctrain.options import Options
from hpctrain.solvers.base import Point, Record, Solver, evaluate, point_of
from hpctrain.vectors import dot, norm


class GaussNewtonOptions(Options):
    """Settings of Levenberg-Marquardt."""

    name: Literal["gauss-newton"] = "gauss-newton"
    damping: float = Field(1e-2, gt=0, description="λ at the start, beside (2/N) JᵀJ")
    least_damping: float = Field(1e-20, gt=0, description="λ is not made smaller")
    greatest_damping: float = Field(1e6, gt=0, description="λ beyond which no step is looked for")
    accept: float = Field(1e-4, ge=0, lt=1, description="a step is taken if ρ is above")
    good: float = Field(0.25, gt=0, lt=1, description="λ is halved if ρ is above")
    very_good: float = Field(0.75, gt=0, lt=1, description="λ is divided by 5 if ρ is above")
    acceleration: float = Field(
        0.75, ge=0, description="α, the greatest 2 ‖a‖ / ‖p‖ of a step; 0 turns acceleration off"
    )
    difference: float = Field(0.1, gt=0, description="h, residuals for r_pp are taken at θ ± h p")


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
            step = damped_step(system, damping, objective, old.theta, o)
            if step is not None:
                trial = objective.at(old.theta + step.total)
                rho = (old.loss - trial.loss) / predicted_decrease(system, step.p)
                if trial.loss < old.loss and rho > o.accept:
                    new = point_of(trial)
                    damping = max(damping * self._factor(rho), o.least_damping)
                    record = Record(new.loss, norm(new.gradient), norm(step.total), 1, 1)
                    return GaussNewtonState(new, damping), record
            damping, growth = damping * growth, 2 * growth
        record = Record(old.loss, norm(old.gradient), 0.0, 1, 1, stalled=True)
        return GaussNewtonState(old, state.damping), record

    def _factor(self, rho: float) -> float:
        if rho > self.options.very_good:
            return 0.2
        return 0.5 if rho > self.options.good else 1.0

    def describe(self) -> list[str]:
        n, o = self.setting.objective.parameters, self.options
        alpha = f"geodesic acceleration up to {o.acceleration:g}" if o.acceleration else "plain"
        return [
            f"gauss-newton: Levenberg-Marquardt, {alpha}, JᵀJ {n} x {n} on every rank, Cholesky",
            f"damping {o.damping:g} at first, controlled by the ratio of decreases",
        ]


@dataclass(frozen=True)
class DampedStep:
    """The velocity p (n,) and the whole step p + ½ a (n,)."""

    p: Tensor
    total: Tensor


def damped_step(
    system: NormalEquations,
    damping: float,
    objective: Objective,
    theta: Tensor,
    options: GaussNewtonOptions,
) -> DampedStep | None:
    """The step for one λ; None where B + λ I is singular in rounding, or a is too long."""
    B = system.hessian.clone()
    B.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(B)
    if int(failed):
        return None

    def solve(right: Tensor) -> Tensor:
        return torch.cholesky_solve(right[:, None], factor)[:, 0]

    p = -solve(system.gradient)
    if not options.acceleration:
        return DampedStep(p, p)
    a = -solve(objective.residual_curvature(theta, p, options.difference))
    if not 2 * norm(a) <= options.acceleration * norm(p):
        return None
    return DampedStep(p, p + 0.5 * a)


def predicted_decrease(system: NormalEquations, p: Tensor) -> float:
    """m(0) - m(p) = -∇Lᵀp - ½ pᵀBp; B's lower triangle is enough."""
    B = system.hessian
    lower = torch.mv(torch.tril(B), p)
    pBp = 2 * dot(p, lower) - dot(p, B.diagonal() * p)
    return -dot(system.gradient, p) - 0.5 * pBp
