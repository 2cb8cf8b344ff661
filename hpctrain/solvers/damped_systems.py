"""The damped Gauss-Newton system of a sum of squared residuals, in the form that costs least.

For L = (1/N) ‖r‖² and B = (2/N) JᵀJ both forms give p and a with

    (B + λ I) p = -∇L,   (B + λ I) a = -(2/N) Jᵀ r_pp.

Primal: B (n, n) is summed over the samples without storing J, and factored. Dual, for A = J or
A = S J with fewer rows k than n, by the identity (AᵀA + δ I)⁻¹ Aᵀ = Aᵀ (A Aᵀ + δ I)⁻¹:

    p = -Aᵀ (A Aᵀ + δ I)⁻¹ S r,   a = -Aᵀ (A Aᵀ + δ I)⁻¹ S r_pp,   δ = λ N / 2.

S = I gives the steps of the primal form. A random S of k < N rows with E SᵀS = I sketches the
residuals: the step minimises ‖S (r + J p)‖² + δ ‖p‖².

Sources: Björck, Numerical Methods for Least Squares Problems (1996); sketched Gauss-Newton for
physics-informed networks: DSGNAR, arXiv 2607.02194.
"""

from typing import Protocol

import torch
from torch import Tensor

from hpctrain.kernels.dense import accumulate_gram
from hpctrain.objective import NormalEquations, Objective, Sketch
from hpctrain.vectors import dot


class Factored(Protocol):
    """The system for one λ."""

    def velocity(self) -> Tensor:
        """p (n,)."""

    def acceleration(self, p: Tensor, h: float) -> Tensor:
        """a (n,), r_pp by differences over ± h p; collective."""


class DampedSystem(Protocol):
    """B and ∇L at one θ."""

    def factor(self, damping: float) -> Factored | None:
        """B + λ I factored; None where it is singular in rounding."""

    def predicted_decrease(self, p: Tensor) -> float:
        """m(0) - m(p), m(p) = (1/N) ‖r + J p‖²."""


class PrimalSystem:
    """B as a matrix (n, n) on every rank; collective to make."""

    def __init__(self, objective: Objective, theta: Tensor) -> None:
        self.equations: NormalEquations = objective.normal_equations(theta)
        self.objective, self.theta = objective, theta

    def factor(self, damping: float) -> "FactoredPrimal | None":
        B = self.equations.hessian.clone()
        B.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(B)
        return None if int(failed) else FactoredPrimal(self, factor)

    def predicted_decrease(self, p: Tensor) -> float:
        """-∇Lᵀp - ½ pᵀBp; B's lower triangle is enough."""
        B = self.equations.hessian
        pBp = 2 * dot(p, torch.mv(torch.tril(B), p)) - dot(p, B.diagonal() * p)
        return -dot(self.equations.gradient, p) - 0.5 * pBp


class FactoredPrimal:
    """The Cholesky factor of B + λ I."""

    def __init__(self, system: PrimalSystem, factor: Tensor) -> None:
        self._system, self._factor = system, factor

    def velocity(self) -> Tensor:
        return -self._solve(self._system.equations.gradient)

    def acceleration(self, p: Tensor, h: float) -> Tensor:
        return -self._solve(self._system.objective.residual_curvature(self._system.theta, p, h))

    def _solve(self, right: Tensor) -> Tensor:
        return torch.cholesky_solve(right[:, None], self._factor)[:, 0]


class DualSystem:
    """A Aᵀ (k, k) and A (k, n) on every rank; collective to make."""

    def __init__(self, objective: Objective, theta: Tensor, sketch: Sketch, threads: int) -> None:
        self.objective, self.theta, self.sketch = objective, theta, sketch
        self.r = sketch.rows[:, 0].contiguous()
        self.A = sketch.rows[:, 1:]
        self.gram = gram_of_rows(self.A, threads)

    def factor(self, damping: float) -> "FactoredDual | None":
        K = self.gram.clone()
        K.diagonal().add_(0.5 * self.objective.samples * damping)
        factor, failed = torch.linalg.cholesky_ex(K)
        return None if int(failed) else FactoredDual(self, factor)

    def predicted_decrease(self, p: Tensor) -> float:
        left = self.r + torch.mv(self.A, p)
        return (dot(self.r, self.r) - dot(left, left)) / self.objective.samples


class FactoredDual:
    """The Cholesky factor of A Aᵀ + δ I."""

    def __init__(self, system: DualSystem, factor: Tensor) -> None:
        self._system, self._factor = system, factor

    def velocity(self) -> Tensor:
        return -self._solve(self._system.r)

    def acceleration(self, p: Tensor, h: float) -> Tensor:
        s = self._system
        return -self._solve(s.objective.sketched_curvature(s.theta, p, h, s.sketch))

    def _solve(self, right: Tensor) -> Tensor:
        """Aᵀ (A Aᵀ + δ I)⁻¹ times residuals (k,)."""
        z = torch.cholesky_solve(right[:, None], self._factor)[:, 0]
        return torch.mv(self._system.A.T, z)


def gram_of_rows(A: Tensor, threads: int) -> Tensor:
    """A Aᵀ (k, k) of rows A (k, n), in the lower triangle."""
    K = A.new_zeros(len(A), len(A))
    accumulate_gram(A.T.contiguous(), K, threads)
    return K
