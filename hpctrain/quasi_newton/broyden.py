"""The dense inverse Hessian of self-scaled BFGS and Broyden methods, by rows over the ranks.

With s the step, y the change of the gradient, a the step length, g the old gradient,
h = yᵀHy / yᵀs, b = -a sᵀg / yᵀs, A = b h - 1 and v = √(yᵀHy) (s / yᵀs - Hy / yᵀHy):

    H⁺ = (1/τ) (H - Hy yᵀH / yᵀHy + φ v vᵀ) + s sᵀ / yᵀs.

Sources: Al-Baali, Computational Optimization and Applications 9 (1998); Urbán, Stefanou, Pons,
arXiv 2405.04230; Kiyani et al., arXiv 2501.16371.

Since v lies in the span of s and q = Hy, the update is H⁺ = H/τ + [q s] C [q s]ᵀ with a 2 × 2
matrix C. It waits until the next product is asked for: one sweep then applies it and multiplies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.kernels.dense import update_and_multiply
from hpctrain.parallel.communicator import Communicator
from hpctrain.state import RowBlock
from hpctrain.vectors import dot

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
    rho = min(1.0, h * (1 - c))
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
    return torch.tensor([[qq, qs], [qs, ss]], dtype=torch.float64)


def row_ranges(n: int, ranks: int) -> list[tuple[int, int]]:
    """The rows (first, last) of an n × n matrix that each rank holds."""
    return [(rank * n // ranks, (rank + 1) * n // ranks) for rank in range(ranks)]


@dataclass
class InverseHessian:
    """H: this rank's rows, and an update that the next product will apply.

    Attributes:
        rows: None as long as H = scale · I.
        scale: of the pending update, 1/τ; of the identity before there are rows.
        pending: [q s]ᵀ (2, n), None when nothing is pending.
        coefficients: C (2, 2).
    """

    rows: RowBlock | None = None
    scale: float = 1.0
    pending: Tensor | None = None
    coefficients: Tensor | None = None

    @property
    def is_identity(self) -> bool:
        """Whether H is still a multiple of I."""
        return self.rows is None and self.pending is None

    def multiply(self, x: Tensor, communicator: Communicator, threads: int) -> Tensor:
        """H x (n,), in one pass over H, which also applies the pending update; collective."""
        if self.is_identity:
            return self.scale * x
        ranges = row_ranges(len(x), communicator.size)
        first, last = ranges[communicator.rank]
        if self.rows is None:
            identity = torch.zeros(last - first, len(x), dtype=x.dtype)
            identity.diagonal(first).fill_(1)
            self.rows = RowBlock(identity, first, len(x))
        local = update_and_multiply(self.rows.rows, x, threads, *self._take_pending(first, last))
        return communicator.allgather_rows(local, [stop - start for start, stop in ranges])

    def _take_pending(self, first: int, last: int) -> tuple[float, Tensor | None, Tensor | None]:
        if self.pending is None or self.coefficients is None:
            return 1.0, None, None
        right, scale = self.pending, self.scale
        # An explicit sum of two products: a BLAS call might sum a row differently on other ranks.
        q, s = right[0, first:last, None], right[1, first:last, None]
        C = self.coefficients.to(right.dtype)
        left = q * C[0] + s * C[1]
        self.pending, self.coefficients, self.scale = None, None, 1.0
        return scale, left, right

    def set_identity(self, scale: float) -> None:
        """H = scale · I, with the memory of the rows given back."""
        self.rows, self.pending, self.coefficients, self.scale = None, None, None, scale

    def update(
        self, s: Tensor, y: Tensor, Hy: Tensor, scaling: Scaling, Hx: Tensor, x: Tensor
    ) -> Tensor:
        """Makes H into H⁺, and H x into H⁺ x (n,), with no pass over the rows."""
        ys, yHy = dot(y, s), dot(y, Hy)
        C = update_coefficients(scaling, yHy, ys)
        self.coefficients, self.pending = C, torch.stack([Hy, s])
        identity_scale = self.scale if self.rows is None else 1.0
        self.scale = identity_scale / scaling.tau
        qx, sx = dot(Hy, x), dot(s, x)
        q_weight = float(C[0, 0]) * qx + float(C[0, 1]) * sx
        s_weight = float(C[1, 0]) * qx + float(C[1, 1]) * sx
        return Hx / scaling.tau + q_weight * Hy + s_weight * s
