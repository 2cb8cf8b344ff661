"""The damped Gauss-Newton system from an orthogonal factorisation of J, which is never squared.

For L = (1/N) ‖r‖², the rows [J r] = Q R of all ranks (`parallel.triangular_factor`), and the
singular values σ of those columns of R that belong to J,

    R = [U diag(σ) Vᵀ, c],   b = Uᵀc,   δ = λ N / 2,
    p = -V diag(σ / (σ² + δ)) b,   d = -V diag(1 / (σ² + δ)) Vᵀ (Jᵀ r(θ + q) + δ (q - c)),
    m(0) - m(p) = (1/N) Σ_i b_i² (1 - (δ / (σ_i² + δ))²),   ‖p‖² = Σ_i (σ_i b_i / (σ_i² + δ))²,

for any λ, each at the cost of a product with V. Directions of θ whose singular value is below 1e-8
of the largest one are lost in the rounding errors of JᵀJ; here those below 1e-16 of it are.

Source: Björck, Numerical Methods for Least Squares Problems (1996), sections 2.4 and 2.7.
"""

import torch
from torch import Tensor

from hpctrain.linalg.vectors import combine_rows, dot, multiply_rows, one_thread
from hpctrain.objective import Objective


class SingularSystem:
    """σ (k,), Vᵀ (k, n) and b (k,), k = min(N, n), on every rank; collective to make."""

    def __init__(self, objective: Objective, theta: Tensor) -> None:
        self.objective, self.theta = objective, theta
        R = objective.residuals.factorise_jacobian(theta)
        with one_thread():
            U, self.sigma, self.Vt = torch.linalg.svd(R[:, :-1], full_matrices=False)
            self.b = U.T @ R[:, -1]

    def factor(self, damping: float) -> "FactoredSingular":
        """The system for one λ > 0."""
        return FactoredSingular(self, 0.5 * self.objective.samples * damping)


class FactoredSingular:
    """The filter 1 / (σ² + δ) of one λ."""

    def __init__(self, system: SingularSystem, delta: float) -> None:
        self._system, self._delta = system, delta
        self._filter = 1 / (system.sigma**2 + delta)
        self._rest = delta * self._filter

    def compute_velocity(self) -> Tensor:
        s = self._system
        return -combine_rows(self._filter * s.sigma * s.b, s.Vt)

    def compute_correction(self, q: Tensor, centre: Tensor) -> Tensor:
        s = self._system
        pulled = 0.5 * s.objective.samples * s.objective.residuals.pull_back(s.theta, q)
        weights = multiply_rows(s.Vt, pulled + self._delta * (q - centre)).to(s.Vt)
        return -combine_rows(self._filter * weights, s.Vt)

    def predict_decrease(self, p: Tensor) -> float:
        """Of the velocity p of this λ, without p itself."""
        b, rest = self._system.b, self._rest
        return dot(b.square() * (1 - rest), 1 + rest) / self._system.objective.samples
