"""The inverse Hessian of self-scaled BFGS and Broyden methods, by rows over the ranks.

With s the step, y the change of the gradient, a the step length, g the old gradient,
h = yᵀHy / yᵀs, b = -a sᵀg / yᵀs, A = b h - 1 and v = √(yᵀHy) (s / yᵀs - Hy / yᵀHy):

    H⁺ = (1/τ) (H - Hy yᵀH / yᵀHy + φ v vᵀ) + s sᵀ / yᵀs.

Sources: Al-Baali, Computational Optimization and Applications 9 (1998); Urbán, Stefanou, Pons,
arXiv 2405.04230; Kiyani et al., arXiv 2501.16371.

Since v lies in the span of s and q = Hy, the update is H⁺ = H/τ + [q s] C [q s]ᵀ with a 2 × 2
matrix C. While there are few updates, H is the sum of their factors (`factored`). Later it is a
matrix, and an update waits until the next product is asked for: one sweep applies and multiplies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hpctrain.kernels.dense import update_and_multiply
from hpctrain.linalg.vectors import dot
from hpctrain.methods.quasi_newton.factors import Factors, row_ranges
from hpctrain.parallel.communicator import Communicator
from hpctrain.store.state import RowBlock

# A and σ are positive in exact arithmetic; this keeps rounding errors from dividing by zero.
TINY = 1e-14


@dataclass(frozen=True)
class Scaling:
    """τ and φ of one update."""

    tau: float
    phi: float


def ssbfgs(h: float, b: float, n: int) -> Scaling:
    """Self-scaled BFGS: φ = 1, τ = min(1, 1/b)."""
    return Scaling(tau=min(1.0, 1 / b), phi=1.0)


def ssbroyden(h: float, b: float, n: int) -> Scaling:
    """Self-scaled Broyden, with φ and τ switched by θ (Urbán et al., section 3.3)."""
    A = max(b * h - 1, TINY)
    c = math.sqrt(A / (A + 1))
    rho = min(1.0, h * max(1 - c, TINY))
    theta = max((rho - 1) / A, min(1 / rho, (1 - b) / b))
    sigma = max(1 + theta * A, TINY)
    sigma_n = sigma ** (1 / (1 - n)) if n > 1 else 1.0
    tau = min(rho * sigma_n, sigma) if theta <= 0 else rho * min(sigma_n, 1 / theta)
    return Scaling(tau, phi=(1 - theta) / sigma)


SCALINGS: dict[str, Callable[[float, float, int], Scaling]] = {
    "ssbfgs": ssbfgs,
    "ssbroyden": ssbroyden,
}


def update_coefficients(scaling: Scaling, yHy: float, ys: float) -> Tensor:
    """C (2, 2) with H⁺ = H/τ + [q s] C [q s]ᵀ, q = Hy."""
    tau, phi = scaling.tau, scaling.phi
    qq = (phi - 1) / (tau * yHy)
    qs = -phi / (tau * ys)
    ss = phi * yHy / (tau * ys**2) + 1 / ys
    return torch.tensor([[qq, qs], [qs, ss]], dtype=torch.float64, device="cpu")


@dataclass
class InverseHessian:
    """H in the form that costs least: c I + factors of its updates, then the matrix by rows.

    Attributes:
        scale: c as long as there are no rows; then 1/τ of the pending update.
        factors: of all updates, as long as there are no rows.
        rows: of the matrix, which takes the factors' place when these cost as much: k ≥ n/2.
        pending: [q s]ᵀ (2, n) of an update of the rows, None when nothing is pending.
        coefficients: C (2, 2) of that update.
    """

    scale: float = 1.0
    factors: Factors = field(default_factory=Factors)
    rows: RowBlock | None = None
    pending: Tensor | None = None
    coefficients: Tensor | None = None

    @property
    def is_identity(self) -> bool:
        """Whether H is still a multiple of I."""
        return self.rows is None and not len(self.factors)

    def set_identity(self, scale: float) -> None:
        """H = scale · I, with the memory of all else given back."""
        self.scale, self.factors = scale, Factors()
        self.rows, self.pending, self.coefficients = None, None, None

    def multiply(self, x: Tensor, ranks: Communicator, threads: int) -> Tensor:
        """H x (n,), in one pass over H, which also applies the pending update; collective."""
        if self.rows is None and 2 * len(self.factors) >= len(x) > 1:
            self._make_dense(x, ranks, threads)
        if self.rows is None:
            return self.factors.times(x, self.scale, ranks, threads)
        ranges = row_ranges(len(x), ranks.size)
        first, last = ranges[ranks.rank]
        local = update_and_multiply(self.rows.rows, x, threads, *self._take_pending(first, last))
        return ranks.allgather_rows(local, [stop - start for start, stop in ranges])

    def update(
        self,
        s: Tensor,
        y: Tensor,
        Hy: Tensor,
        scaling: Scaling,
        Hx: Tensor,
        x: Tensor,
        ranks: Communicator,
    ) -> Tensor:
        """Makes H into H⁺, and H x into H⁺ x (n,), with no pass over H."""
        ys, yHy = dot(y, s), dot(y, Hy)
        C = update_coefficients(scaling, yHy, ys)
        if self.rows is None:
            self.factors.append(Hy, s, C, scaling.tau, ranks)
            self.scale /= scaling.tau
        else:
            self.coefficients, self.pending = C, torch.stack([Hy, s])
            self.scale = 1 / scaling.tau
        qx, sx = dot(Hy, x), dot(s, x)
        q_weight = float(C[0, 0]) * qx + float(C[0, 1]) * sx
        s_weight = float(C[1, 0]) * qx + float(C[1, 1]) * sx
        return Hx / scaling.tau + q_weight * Hy + s_weight * s

    def _make_dense(self, like: Tensor, ranks: Communicator, threads: int) -> None:
        """Rows in place of factors, of the type and on the device of a vector (n,)."""
        n = len(like)
        first, last = row_ranges(n, ranks.size)[ranks.rank]
        rows = like.new_zeros(last - first, n)
        rows.diagonal(first).fill_(self.scale)
        self.factors.move_to(rows, ranks, threads)
        self.rows, self.scale = RowBlock(rows, first, n), 1.0

    def _take_pending(self, first: int, last: int) -> tuple[float, Tensor | None, Tensor | None]:
        if self.pending is None or self.coefficients is None:
            return 1.0, None, None
        right, scale = self.pending, self.scale
        # An explicit sum of two products: a BLAS call might sum a row differently on other ranks.
        q, s = right[0, first:last, None], right[1, first:last, None]
        C = self.coefficients.to(right)
        left = q * C[0] + s * C[1]
        self.pending, self.coefficients, self.scale = None, None, 1.0
        return scale, left, right
