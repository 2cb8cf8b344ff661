"""Gauss-Newton steps from few residuals with a memory of the steps before: SPRING.

For L = (1/N) ‖r‖² over the points of the moment, with the Jacobian J (m, n) of the m residuals, the
direction φ is the damped Gauss-Newton one that stays as near as possible to the last one:

    φ_k = arg min_φ (1/N) ‖J φ - r‖² + (λ/2) ‖φ - μ φ_{k-1}‖²
        = μ φ_{k-1} + Jᵀ (J Jᵀ + δ I)⁻¹ (r - μ J φ_{k-1}),   δ = λ N / 2,
    θ_{k+1} = θ_k - η φ_k.

So what the points of one step say is kept where those of the next one say nothing: in the
directions orthogonal to their rows of J. It is meant for points that are drawn anew for every step
(`problem.adapt`), and for m much smaller than n, as the system is m x m. η is the first of 1, 1/2,
1/4, … after which the loss on these points rises again; or a number, made smaller where ‖η φ‖
would exceed √C. With μ = 0 it is the energy natural gradient in Woodbury's form.

Sources: Goldshlager, Abrahamsen, Lin, A Kaczmarz-inspired approach to accelerate the optimization
of neural network wavefunctions, JCP 516 (2024) 113351, arXiv 2401.10190, equations 29 to 31; for
physics-informed networks, with a search for η, Guzmán-Cordero, Dangel, Goldshlager, Zeinhofer,
arXiv 2505.12149.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.least_squares.tall_matrix import TallMatrix, transpose_rows
from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import Evaluation, Point, complete_point, evaluate_point
from hpctrain.options import Options, refuse_idle
from hpctrain.solvers.base import Need, Record, Setting, Solver

# Halvings of η, at most.
HALVINGS = 30


class SpringOptions(Options):
    """Settings of SPRING."""

    name: Literal["spring"] = "spring"
    damping: float = Field(1e-3, gt=0, description="λ, beside (2/N) JᵀJ")
    momentum: float = Field(0.9, ge=0, lt=1, description="μ, part of the last direction; 0 is none")
    learning_rate: float | None = Field(
        None, gt=0, description="η; by default 1, halved while that lowers the loss further"
    )
    longest_step: float | None = Field(
        None, gt=0, description="√C: ‖η φ‖ is not made longer; by default any length"
    )

    @model_validator(mode="after")
    def _refuse_idle(self) -> "SpringOptions":
        if self.learning_rate is None:
            refuse_idle(self, {"longest_step": "without learning_rate"})
        return self


@dataclass
class SpringState:
    """θ with its loss and gradient on the points of the last step, and the direction φ (n,)."""

    point: Point
    phi: Tensor


@dataclass(frozen=True)
class _Linearised:
    """The residuals r (m,) on the points of the moment at θ (n,), and Jᵀ (n, m) there."""

    theta: Tensor
    r: Tensor
    J_T: TallMatrix


class Spring(Solver[SpringState]):
    """See the module."""

    names = ("spring",)
    Options = SpringOptions
    needs = frozenset({Need.RESIDUALS})

    def __init__(self, setting: Setting, options: Any) -> None:
        super().__init__(setting, options)
        self._linearised: _Linearised | None = None  # by a renewal, for the step after it

    def init(self, theta: Tensor) -> SpringState:
        with self.setting.timer.phase("global"):
            point = evaluate_point(self.setting.objective, theta)
            return SpringState(point, torch.zeros_like(theta))

    def renew(self, state: SpringState) -> SpringState:
        """L = (1/N) rᵀr and ∇L = (2/N) Jᵀr of the rows that the next step takes."""
        with self.setting.timer.phase("global"):
            theta, N = state.point.theta, self.setting.objective.samples
            found = self._linearise(theta)
            gradient = (2 / N) * found.J_T.multiply(found.r)
            self._linearised = found
            return replace(state, point=Point(theta, dot(found.r, found.r) / N, gradient))

    def step(self, state: SpringState) -> tuple[SpringState, Record]:
        with self.setting.timer.phase("global"):
            phi = self._find_direction(state)
            if phi is None:
                return self._stay(state, Outcome.SINGULAR_SYSTEM)
            found = self._move(state.point, phi)
            if found is None:
                has_memory = bool(state.phi.any()) and self.options.momentum > 0
                dropped, ended = Outcome.DIRECTION_DROPPED, Outcome.NO_NEWTON_DESCENT
                return self._stay(state, dropped if has_memory else ended)
            new = complete_point(found)
        length = norm(new.theta - state.point.theta)
        return SpringState(new, phi), Record(new.loss, norm(new.gradient), length, 1, 1)

    def _find_direction(self, state: SpringState) -> Tensor | None:
        """φ_k (n,); None where J Jᵀ + δ I is singular in rounding."""
        o, theta = self.options, state.point.theta
        known, self._linearised = self._linearised, None
        found = known if known and known.theta is theta else self._linearise(theta)
        shift = 0.5 * self.setting.objective.samples * o.damping
        factors = found.J_T.compute_gram().factorise(shift)
        if factors is None:
            return None
        kept = o.momentum * state.phi
        left = found.r - found.J_T.multiply_transposed(kept)
        return kept + found.J_T.multiply(factors.solve(left))

    def _linearise(self, theta: Tensor) -> _Linearised:
        """r and Jᵀ at θ (n,); collective."""
        objective = self.setting.objective
        rows, counts = objective.residuals.evaluate_rows(theta)
        r = objective.communicator.allgather_rows(rows[:, 0], counts)
        return _Linearised(theta, r, transpose_rows(rows[:, 1:], counts, objective))

    def _move(self, point: Point, phi: Tensor) -> Evaluation | None:
        """θ - η φ; None where no η of the search lowers the loss."""
        o, objective = self.options, self.setting.objective
        if o.learning_rate is not None:
            eta, length = o.learning_rate, norm(phi)
            if o.longest_step is not None and eta * length > o.longest_step:
                eta = o.longest_step / length
            return objective.evaluate_with_gradient(point.theta - eta * phi)
        best = None
        for halvings in range(HALVINGS + 1):
            trial = objective.evaluate(point.theta - 0.5**halvings * phi)
            if best is not None and not trial.loss < best.loss:
                return best
            if trial.loss < point.loss:
                best = trial
        return best

    def _stay(self, state: SpringState, outcome: Outcome) -> tuple[SpringState, Record]:
        """The same θ, without a memory."""
        point = state.point
        record = Record(point.loss, norm(point.gradient), 0.0, 1, 1, outcome)
        return SpringState(point, torch.zeros_like(state.phi)), record

    def describe(self) -> list[str]:
        o = self.options
        eta = "1, halved while that lowers the loss further"
        if o.learning_rate is not None:
            bound = "" if o.longest_step is None else f", steps of {o.longest_step:g} at most"
            eta = f"{o.learning_rate:g}{bound}"
        return [
            "spring: Gauss-Newton of J Jᵀ over all ranks, Cholesky, with a memory of the last step",
            f"damping {o.damping:g}, momentum {o.momentum:g}, learning rate {eta}",
        ]
