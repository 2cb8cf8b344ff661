"""The damped Gauss-Newton system of a sum of squared residuals, in the form that costs least.

For L = (1/N) ‖r‖² and B = (2/N) JᵀJ at θ both forms give a step p, and for any step q and centre c
a correction d of it, with

    (B + λ I) p = -∇L,   (B + λ I) d = -((2/N) Jᵀ r(θ + q) + λ (q - c)).

Primal: B (n, n) is summed over the samples without storing J. Dual, for A = J, of R residuals of
the N samples, or A = S J with fewer rows k than n, by the identity
(AᵀA + δ I)⁻¹ Aᵀ = Aᵀ (A Aᵀ + δ I)⁻¹:

    p = -Aᵀ (A Aᵀ + δ I)⁻¹ S r,   δ = λ N / 2,
    q - c + d = -Aᵀ (A Aᵀ + δ I)⁻¹ (S r(θ + q) - A (q - c)).

S = I gives the steps of the primal form. A random S of k < N rows with E SᵀS = I sketches the
residuals: the step minimises ‖S (r + J p)‖² + δ ‖p‖². Both matrices are factored by all ranks
together.

Scaled: the primal form by z = R θ (`parallel.block_scaling`), where few parameters are coupled.

Sources: Björck, Numerical Methods for Least Squares Problems (1996); sketched Gauss-Newton for
physics-informed networks: DSGNAR, arXiv 2607.02194.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from hpctrain.linalg.block_layout import Layout
from hpctrain.linalg.vectors import dot
from hpctrain.objective import Objective, Point, Sketch
from hpctrain.parallel.block_rows import BlockRows, Cholesky
from hpctrain.parallel.sparse_blocks import SparseBlocks, SparseCholesky


class Variables(Protocol):
    """z = R θ; see `parallel.block_scaling`. Its methods are collective."""

    def scale(self, theta: Tensor) -> Tensor:
        """z (n,)."""

    def unscale(self, z: Tensor) -> Tensor:
        """θ (n,)."""

    def pull_back(self, gradient: Tensor) -> Tensor:
        """The gradient by z (n,)."""


class Unscaled:
    """z = θ."""

    def scale(self, theta: Tensor) -> Tensor:
        return theta

    def unscale(self, z: Tensor) -> Tensor:
        return z

    def pull_back(self, gradient: Tensor) -> Tensor:
        return gradient


class Factored(Protocol):
    """The system for one λ."""

    def compute_velocity(self) -> Tensor:
        """p (n,); collective."""

    def compute_correction(self, q: Tensor, centre: Tensor) -> Tensor:
        """d (n,) for a step q (n,), of which λ damps the part beyond a centre (n,); collective."""

    def predict_decrease(self, p: Tensor) -> float:
        """m(0) - m(p) for the velocity p, m(p) = (1/N) ‖r + J p‖²; collective."""


class DampedSystem(Protocol):
    """B and ∇L at one θ."""

    def factor(self, damping: float) -> Factored | None:
        """B + λ I factored; None where it is singular in rounding; collective."""


class PrimalSystem:
    """B in block rows over the ranks, or its blocks that are not zero; collective to make.

    Args:
        cutoff: c of `parallel.block_scaling`. B is R⁻ᵀ (2/N) JᵀJ R⁻¹ then, by z = R θ in which the
            columns of J by the parameters of a piece are orthonormal, and what is damped is ‖z‖.
            None for θ itself.
    """

    def __init__(self, objective: Objective, point: Point, cutoff: float | None = None) -> None:
        self.objective, self.point = objective, point
        self.matrix: BlockRows | SparseBlocks
        self.variables: Variables
        if cutoff is None:
            self.matrix = objective.residuals.assemble_gauss_newton(point.theta)
            self.variables = Unscaled()
        else:
            found = objective.residuals.assemble_scaled_gauss_newton(point.theta, cutoff)
            self.matrix, self.variables = found

    def factor(self, damping: float) -> "FactoredPrimal | None":
        factors = self.matrix.factorise(damping)
        return None if factors is None else FactoredPrimal(self, damping, factors)


class FactoredPrimal:
    """The Cholesky factor of B + λ I."""

    def __init__(
        self, system: PrimalSystem, damping: float, factors: "Cholesky | SparseCholesky"
    ) -> None:
        self._system, self._damping, self._factors = system, damping, factors
        self._variables = system.variables

    def compute_velocity(self) -> Tensor:
        right = self._variables.pull_back(self._system.point.gradient)
        return -self._variables.unscale(self._factors.solve(right))

    def compute_correction(self, q: Tensor, centre: Tensor) -> Tensor:
        s, variables = self._system, self._variables
        pulled = variables.pull_back(s.objective.residuals.pull_back(s.point.theta, q))
        right = pulled + self._damping * variables.scale(q - centre)
        return -variables.unscale(self._factors.solve(right))

    def predict_decrease(self, p: Tensor) -> float:
        """-∇Lᵀp - ½ zᵀBz for z of p, and B z = -∇L - λ z by z."""
        z = self._variables.scale(p)
        return 0.5 * (self._damping * dot(z, z) - dot(self._system.point.gradient, p))


class DualSystem:
    """A (k, n) on every rank and A Aᵀ (k, k) in block rows over them; collective to make.

    Args:
        theta: θ (n,).
        rows: S [r J] (k, 1 + n) at θ, whole on every rank.
        evaluate: computes S r (k,) at another point; collective.
    """

    def __init__(
        self,
        objective: Objective,
        theta: Tensor,
        rows: Tensor,
        evaluate: Callable[[Tensor], Tensor],
    ) -> None:
        self.objective, self.theta, self.evaluate = objective, theta, evaluate
        self.r = rows[:, 0].contiguous()
        self.A = rows[:, 1:].contiguous()
        ranks = objective.communicator
        layout = Layout(len(self.A), ranks.size)
        places = map(layout.find_slices, layout.list_rows(ranks.rank))
        own = [(self.A[rows] @ self.A[columns].T).view(-1) for rows, columns in places]
        numbers = torch.cat([self.A.new_empty(0), *own])
        self.gram = BlockRows(ranks, layout, numbers, objective.threads)

    @classmethod
    def of_all_rows(cls, objective: Objective, theta: Tensor) -> "DualSystem":
        """S = I."""
        rows, counts = objective.residuals.gather_rows(theta)
        return cls(
            objective, theta, rows, lambda x: objective.residuals.gather_residuals(x, counts)
        )

    @classmethod
    def of_sketch(cls, objective: Objective, theta: Tensor, sketch: Sketch) -> "DualSystem":
        """A random S."""
        return cls(
            objective, theta, sketch.rows, lambda x: objective.residuals.apply_sketch(x, sketch)
        )

    def factor(self, damping: float) -> "FactoredDual | None":
        factors = self.gram.factorise(0.5 * self.objective.samples * damping)
        return None if factors is None else FactoredDual(self, factors)


class FactoredDual:
    """The Cholesky factor of A Aᵀ + δ I."""

    def __init__(self, system: DualSystem, factors: Cholesky) -> None:
        self._system, self._factors = system, factors

    def compute_velocity(self) -> Tensor:
        return -self._solve(self._system.r)

    def compute_correction(self, q: Tensor, centre: Tensor) -> Tensor:
        s, beyond = self._system, q - centre
        return -self._solve(s.evaluate(s.theta + q) - torch.mv(s.A, beyond)) - beyond

    def predict_decrease(self, p: Tensor) -> float:
        s = self._system
        left = s.r + torch.mv(s.A, p)
        return (dot(s.r, s.r) - dot(left, left)) / s.objective.samples

    def _solve(self, right: Tensor) -> Tensor:
        """Aᵀ (A Aᵀ + δ I)⁻¹ times residuals (k,)."""
        return torch.mv(self._system.A.T, self._factors.solve(right))
