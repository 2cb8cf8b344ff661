"""The inverse Hessian of self-scaled BFGS and Broyden methods, by rows over the ranks.

With s the step, y the change of the gradient, a the step length, g the old gradient,
h = yᵀHy / yᵀs, b = -a sᵀg / yᵀs, A = b h - 1 and v = √(yᵀHy) (s / yᵀs - Hy / yᵀHy):

    H⁺ = (1/τ) (H - Hy yᵀH / yᵀHy + φ v vᵀ) + s sᵀ / yᵀs.

Sources: Al-Baali, Computational Optimization and Applications 9 (1998); Urbán, Stefanou, Pons,
arXiv 2405.04230; Kiyani et al., arXiv 2501.16371.

Since v lies in the span of s and q = Hy, the update is H⁺ = H/τ + [q s] C [q s]ᵀ with a 2 × 2
matrix C. While there are few updates, H is the sum of their factors (`factors`), later it is a
matrix. An update waits until the next product: of a matrix one sweep applies and multiplies.

H is a value: an update makes another H and leaves the first as it was. Both have their numbers in
the same memory. Factors are written beside those that are there. Into a matrix the waiting update
is written in place if no other H in use has it, else into a copy. A method that goes on from its
last state alone, as a run does, never copies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from weakref import WeakSet

import torch
from torch import Tensor

from hpctrain.kernels.dense import update_and_multiply
from hpctrain.linalg.vectors import dot
from hpctrain.methods.quasi_newton.factors import Factors
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.rows import find_held_rows
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


def find_coefficients(scaling: Scaling, yHy: float, ys: float) -> Tensor:
    """C (2, 2) with H⁺ = H/τ + [q s] C [q s]ᵀ, q = Hy."""
    tau, phi = scaling.tau, scaling.phi
    qq = (phi - 1) / (tau * yHy)
    qs = -phi / (tau * ys)
    ss = phi * yHy / (tau * ys**2) + 1 / ys
    return torch.tensor([[qq, qs], [qs, ss]], dtype=torch.float64, device="cpu")


@dataclass(frozen=True)
class Update:
    """H⁺ = H/τ + [q s] C [q s]ᵀ, with [q s]ᵀ (2, n) as `vectors` and C (2, 2)."""

    vectors: Tensor
    C: Tensor
    tau: float

    def multiply(self, Hx: Tensor, x: Tensor) -> Tensor:
        """H⁺ x (n,) for a vector whose H x is known, with no pass over H."""
        q, s = self.vectors
        (qq, qs), (sq, ss) = self.C.tolist()
        qx, sx = dot(q, x), dot(s, x)
        return Hx / self.tau + (qq * qx + qs * sx) * q + (sq * qx + ss * sx) * s


@dataclass(eq=False)
class InverseHessian:
    """H in the form that costs least: c I + factors of its updates, then the matrix by rows.

    Attributes:
        scale: c, as long as there are no rows.
        factors: of all updates but the waiting one, as long as there are no rows.
        rows: of the matrix, which takes the factors' place when these cost as much: k ≥ n/2.
        waiting: the last update, until a product is asked for.
    """

    scale: float = 1.0
    factors: Factors = field(default_factory=Factors)
    rows: RowBlock | None = None
    waiting: Update | None = None

    def __post_init__(self) -> None:
        # All that is in use and has its matrix in the same memory.
        self._users = WeakSet[InverseHessian]([self])

    @property
    def is_identity(self) -> bool:
        """Whether H is still a multiple of I."""
        return self.rows is None and self.waiting is None and not len(self.factors)

    def multiply(self, x: Tensor, ranks: Communicator, threads: int) -> Tensor:
        """H x (n,), in one pass over H, which also applies the waiting update; collective."""
        if self.rows is None:
            self._append_waiting(ranks)
            if 2 * len(self.factors) >= len(x) > 1:
                self._make_dense(x, ranks, threads)
        if self.rows is None:
            return self.factors.multiply(x, self.scale, ranks, threads)
        held = find_held_rows(len(x), ranks.size, ranks.rank)
        update = self._take_waiting(held.first, held.last)
        local = update_and_multiply(self.rows.rows, x, threads, *update)
        return ranks.allgather_rows(local, held.counts)

    def update(
        self, s: Tensor, y: Tensor, Hy: Tensor, scaling: Scaling, Hx: Tensor, x: Tensor
    ) -> tuple["InverseHessian", Tensor]:
        """H⁺ and H⁺ x (n,), given H y and H x (n,), with no pass over H."""
        assert self.waiting is None, "H y has applied it"
        C = find_coefficients(scaling, dot(y, Hy), dot(y, s))
        update = Update(torch.stack([Hy, s]), C, scaling.tau)
        new = InverseHessian(self.scale, self.factors.share(), self.rows, update)
        new._users = self._users
        new._users.add(new)
        return new, update.multiply(Hx, x)

    def _append_waiting(self, ranks: Communicator) -> None:
        update, self.waiting = self.waiting, None
        if update is None:
            return
        self.factors.append(update.vectors, update.C, update.tau, ranks)
        self.scale /= update.tau

    def _make_dense(self, like: Tensor, ranks: Communicator, threads: int) -> None:
        """Rows in place of factors, of the type and on the device of a vector (n,)."""
        self._leave_memory()
        n = len(like)
        held = find_held_rows(n, ranks.size, ranks.rank)
        rows = like.new_zeros(held.last - held.first, n)
        rows.diagonal(held.first).fill_(self.scale)
        self.factors.move_to(rows, ranks, threads)
        self.rows, self.scale = RowBlock(rows, held.first, n), 1.0

    def _take_waiting(self, first: int, last: int) -> tuple[float, Tensor | None, Tensor | None]:
        """1/τ and the factors of the update for these rows, which are then H's alone to write."""
        update, self.waiting = self.waiting, None
        if update is None:
            return 1.0, None, None
        if self._leave_memory() and self.rows is not None:
            self.rows = replace(self.rows, rows=self.rows.rows.clone())
        right = update.vectors
        # An explicit sum of two products: a BLAS call might sum a row differently on other ranks.
        q, s = right[0, first:last, None], right[1, first:last, None]
        C = update.C.to(right)
        return 1 / update.tau, q * C[0] + s * C[1], right

    def _leave_memory(self) -> bool:
        """Whether others in use have the same matrix; H is no longer one of its users then."""
        if len(self._users) == 1:
            return False
        self._users.discard(self)
        self._users = WeakSet([self])
        return True
