"""Limited-memory SR1: the pairs, B by its eigenvalues, and its trust-region subproblem (OBS).

With S = [s_1 … s_k], Y = [y_1 … y_k] and SᵀY = L + D + R (strictly lower, diagonal, strictly
upper), the compact form of B is

    B = γI + Ψ M Ψᵀ,   Ψ = Y - γS,   M⁻¹ = D + L + Lᵀ - γ SᵀS.

The thin factorisation Ψ = Q R and the eigenvalues of the k × k matrix R M Rᵀ = U Λ̂ Uᵀ give
B = γI + P Λ̂ Pᵀ with P = Q U: eigenvalues γ + λ̂_i on the columns of P, and γ on all vectors
orthogonal to them.

Sources: Byrd, Nocedal, Schnabel, Mathematical Programming 63 (1994), theorem 5.1 (compact form);
Brust, Erway, Marcia, Computational Optimization and Applications 66 (2017), arXiv 1506.07222
(orthonormal basis method, OBS); Yamamoto, Nakatsukasa, Yanagisawa, Fukaya, Electronic Transactions
on Numerical Analysis 44 (2015) (the thin factorisation, CholeskyQR2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from hpctrain.kernels.pairs import combine_pairs, multiply_pairs
from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.linalg.vectors import combine_rows, dot, multiply_rows, norm

# A pair is skipped if |sᵀ(y - Bs)| is not above SKIP ‖s‖‖y - Bs‖ (Nocedal and Wright, 6.26).
SKIP = 1e-8
# γ lies below the least curvature λ̂ that the pairs show by this fraction of |λ̂|.
BELOW = 0.5
# ‖s‖ on the boundary is Δ to this relative error.
BOUNDARY_TOLERANCE = 1e-14
MAX_NEWTON_STEPS = 100
# Least sine of the angle between a column of Ψ and those before it. The Cholesky factor of ΨᵀΨ sees
# its square, which has to stay above the rounding errors of float64.
LEAST_SINE = 1e-6
# Where no sine is below this one, one pass of the factorisation is orthogonal to single precision.
ONE_PASS = 1e-4
# Part of a column of length 1 that a second pass has to leave: less were rounding errors.
STILL_THERE = 0.5


class Ending(Enum):
    """Where the minimum of a trust-region subproblem lies."""

    INTERIOR = "inside the trust region, or on its edge with multiplier 0"
    BOUNDARY = "on its boundary"
    HARD_CASE = "on its boundary, reached along an eigenvector of the least eigenvalue"


@dataclass(frozen=True)
class SubproblemSolution:
    """The global minimum s (n,) of gᵀs + ½ sᵀBs over ‖s‖ ≤ Δ, with (B + σI) s = -g."""

    step: Tensor
    sigma: float
    ending: Ending


def _empty(*shape: int) -> Tensor:
    """Small matrices are on the CPU, wherever the vectors are."""
    return torch.zeros(shape, dtype=torch.float64, device="cpu")


@dataclass(frozen=True)
class Hessian:
    """B = γI + P Λ̂ Pᵀ by its eigenvalues.

    Attributes:
        gamma: γ.
        P: k orthonormal eigenvectors by rows (k, n); (0, 0) if B = γI.
        shifts: λ̂ (k,), float64, their eigenvalues less γ.
    """

    gamma: float
    P: Tensor = field(default_factory=lambda: _empty(0, 0))
    shifts: Tensor = field(default_factory=lambda: _empty(0))

    def multiply_vector(self, v: Tensor) -> Tensor:
        """B v (n,)."""
        if not self.P.numel():
            return self.gamma * v
        inside = combine_rows(self.shifts * multiply_rows(self.P, v), self.P)
        return torch.add(inside, v, alpha=self.gamma)

    def minimise(self, gradient: Tensor, radius: float) -> SubproblemSolution:
        """The global minimum of gᵀs + ½ sᵀBs over ‖s‖₂ ≤ Δ.

        In the basis of eigenvectors P and g⊥ = g - P Pᵀg the problem is diagonal: at most k + 1
        numbers are left of it (`minimise_diagonal`).
        """
        k = len(self.P)
        g = multiply_rows(self.P, gradient) if k else _empty(0)
        across = _find_orthogonal_part(gradient, self.P)
        length, eigenvalues = norm(across), self.gamma + self.shifts
        if k < len(gradient):
            eigenvalues = torch.cat([eigenvalues, eigenvalues.new_tensor([self.gamma])])
            g = torch.cat([g, g.new_tensor([length])])
        v, sigma, ending = minimise_diagonal(eigenvalues, g, radius)
        step = combine_rows(v[:k], self.P) if k else torch.zeros_like(gradient)
        if len(v) > k and float(v[k]) != 0:
            unit = across / length if length > 0 else _find_orthogonal_unit(self.P, gradient)
            step = step + float(v[k]) * unit
        return SubproblemSolution(step, sigma, ending)


@dataclass(frozen=True)
class LSR1:
    """The last m pairs s = θ⁺ - θ, y = ∇L(θ⁺) - ∇L(θ), each (n,), the newest last, and their B.

    `inner` (3, k, k), float64, has SᵀS, SᵀY and YᵀY: a new pair adds a row and a column.
    """

    s: list[Tensor] = field(default_factory=list)
    y: list[Tensor] = field(default_factory=list)
    inner: Tensor = field(default_factory=lambda: _empty(3, 0, 0))
    hessian: Hessian = field(default_factory=lambda: Hessian(1.0))

    def __post_init__(self) -> None:
        """P is where the pairs are, also out of a checkpoint."""
        if self.s and self.hessian.P.device != self.s[0].device:
            P = self.hessian.P.to(self.s[0].device)
            object.__setattr__(self, "hessian", replace(self.hessian, P=P))

    def update(self, s: Tensor, y: Tensor, memory: int) -> "LSR1":
        """The memory with one pair more; the same memory if B cannot or need not learn from it.

        The oldest pairs are dropped beyond `memory`, and as long as M or ΨᵀΨ is singular.
        """
        residual = y - self.hessian.multiply_vector(s)
        if not abs(dot(s, residual)) > SKIP * norm(s) * norm(residual):
            return self
        S, Y = [*self.s, s.contiguous()][-memory:], [*self.y, y.contiguous()][-memory:]
        inner = _append_pair(self.inner[:, 1 - len(S) :, 1 - len(S) :], S, Y)
        for first in range(len(S)):
            kept = inner[:, first:, first:].clone()
            hessian = make_compact_hessian(S[first:], Y[first:], kept)
            if hessian is not None:
                return LSR1(S[first:], Y[first:], kept, hessian)
        return self


def make_compact_hessian(S: list[Tensor], Y: list[Tensor], inner: Tensor) -> Hessian | None:
    """B of pairs, the newest last; None where M or ΨᵀΨ is singular in the pairs' precision.

    Both are judged after scaling the columns of Ψ by c_i = (‖s_i‖‖ψ_i‖)^(-½): the diagonal of
    M⁻¹ then has the cosines of s_i and ψ_i, the numbers by which pairs are skipped.

    ΨᵀΨ comes from the inner products, and Ψ, which is read once or twice, is never made. Little is
    lost: ‖ψ_i‖ ≥ ½ |λ̂| ‖s_i‖, as γ keeps away from the pairs' curvatures.

    Args:
        S, Y: k vectors (n,) each; their precision is that of P.
        inner: SᵀS, SᵀY and YᵀY (3, k, k), float64.
    """
    SS, SY, YY = inner
    DLL = SY.tril() + SY.tril(-1).mT
    gamma = choose_initial_curvature(DLL, SS)
    squares = YY - gamma * (SY + SY.mT) + gamma**2 * SS
    lengths = squares.diagonal().clamp(min=0).sqrt()
    tolerance = math.sqrt(torch.finfo(S[0].dtype).eps)
    if not bool((lengths > 0).all()):
        return None
    c = (SS.diagonal().sqrt() * lengths).rsqrt()
    eigenvalues, V = torch.linalg.eigh(c[:, None] * (DLL - gamma * SS) * c)
    if not bool(eigenvalues.abs().min() > tolerance * eigenvalues.abs().max()):
        return None
    factors = _compute_thin_qr(S, Y, gamma, squares, max(tolerance, LEAST_SINE))
    if factors is None:
        return None
    combined, R = factors
    RcV = (R * c) @ V
    shifts, U = torch.linalg.eigh((RcV / eigenvalues) @ RcV.T)
    return Hessian(gamma, combined(U.T), shifts)


def choose_initial_curvature(DLL: Tensor, SS: Tensor) -> float:
    """γ = λ̂ - BELOW |λ̂|, with λ̂ the least eigenvalue of (D + L + Lᵀ) u = λ SᵀS u.

    Then M⁻¹ is positive definite and γ is the least eigenvalue of B. Where γ > λ̂, B may curve
    downwards though no pair does (Erway, Griffin, Marcia, Omheni, arXiv 1807.00251). With a single
    pair γ = yᵀy / yᵀs, which suits BFGS, makes B singular.

    λ̂ is sought where SᵀS, scaled to a unit diagonal, is far from singular.
    """
    scale = SS.diagonal().rsqrt()
    e, V = torch.linalg.eigh(scale[:, None] * SS * scale)
    safe = e > SKIP * e[-1]
    W = scale[:, None] * V[:, safe] / e[safe].sqrt()
    least = float(torch.linalg.eigvalsh(W.T @ DLL @ W)[0])
    return least - BELOW * abs(least)


def minimise_diagonal(
    eigenvalues: Tensor, g: Tensor, radius: float
) -> tuple[Tensor, float, Ending]:
    """The v (r,) of least gᵀv + ½ Σ λ_i v_i² with ‖v‖ ≤ Δ, its multiplier σ, and where it lies.

    With d_i = λ_i - λ_1 ≥ 0 and μ = σ + λ_1 ≥ max(λ_1, 0) it is v_i(μ) = -g_i / (d_i + μ): no
    difference of close numbers is left, however close σ is to -λ_1. On the boundary, Newton's
    method on 1/‖v(μ)‖ = 1/Δ, which is increasing and concave, rises monotonically to the root
    from a lower bound (Conn, Gould, Toint, Trust-Region Methods (2000), section 7.3).
    """
    values, slopes = to_array(eigenvalues), to_array(g)  # few numbers: NumPy's calls take less time
    least = float(values.min())
    d, lowest = values - least, max(least, 0.0)
    v = _divide(-slopes, d + lowest)
    length = float(np.linalg.norm(v))
    if length <= radius:
        if least >= 0:
            return to_tensor(v), 0.0, Ending.INTERIOR
        v[values.argmin()] = math.sqrt((radius - length) * (radius + length))
        return to_tensor(v), -least, Ending.HARD_CASE
    mu = max(lowest, float((abs(slopes) / radius - d).max()))
    for _ in range(MAX_NEWTON_STEPS):
        v = _divide(-slopes, d + mu)
        length = float(np.linalg.norm(v))
        slope = float(_divide(v**2, d + mu).sum()) / length**2
        if length <= radius * (1 + BOUNDARY_TOLERANCE):
            break
        mu += (length / radius - 1) / slope
    return to_tensor(v * (radius / length)), mu - least, Ending.BOUNDARY


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Numbers (r,) by numbers (r,), 0 where the first is 0, and ±∞ where only the second is."""
    with np.errstate(divide="ignore"):
        return np.divide(above, below, out=np.zeros_like(above), where=above != 0)


def _append_pair(inner: Tensor, S: list[Tensor], Y: list[Tensor]) -> Tensor:
    """SᵀS, SᵀY, YᵀY (3, k, k) of k pairs, known but for the last one."""
    k = len(S)
    with_s, with_y = multiply_pairs([*S, *Y], S[-1], Y[-1]).view(2, k, 2).unbind(-1)
    larger = _empty(3, k, k)
    larger[:, :-1, :-1] = inner
    larger[0, -1] = larger[0, :, -1] = with_s[0]
    larger[1, -1], larger[1, :, -1] = with_s[1], with_y[0]
    larger[2, -1] = larger[2, :, -1] = with_y[1]
    return larger


def _compute_thin_qr(
    S: list[Tensor], Y: list[Tensor], gamma: float, squares: Tensor, least_sine: float
) -> tuple[Callable[[Tensor], Tensor], Tensor] | None:
    """The thin factorisation Ψ = Q R of Ψ (n, k): the function W ↦ W Qᵀ of W (m, k), and R (k, k).

    R is upper triangular, and Q never needed by itself. None if columns of Ψ are dependent.
    CholeskyQR2: with ΨᵀΨ = RᵀR it is Q = Ψ R⁻¹, which is done twice. Q of the first time is as
    orthogonal as the square of Ψ's condition allows, which is enough for columns from single
    precision; that of the second time is to rounding errors.

    Args:
        S, Y: k vectors (n,) each.
        gamma: γ of Ψ = Y - γS.
        squares: ΨᵀΨ (k, k).
        least_sine: dependent is a column whose angle to those before it is smaller.
    """
    lengths = squares.diagonal().sqrt()
    factor, failed = torch.linalg.cholesky_ex(squares / torch.outer(lengths, lengths))
    if failed or not bool((factor.diagonal() > least_sine).all()):
        return None
    first = lengths[:, None] * factor
    inverse = _invert(first)
    if least_sine > ONE_PASS:
        return lambda W: combine_pairs(W @ inverse, gamma, S, Y), first.T
    Q = combine_pairs(inverse, gamma, S, Y)
    second, failed = torch.linalg.cholesky_ex(multiply_rows(Q, Q))
    if failed or not bool((second.diagonal() > STILL_THERE).all()):
        return None
    again = _invert(second)
    return lambda W: combine_rows(W @ again, Q), second.T @ first.T


def _invert(lower: Tensor) -> Tensor:
    """The inverse of a lower triangular matrix (k, k)."""
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False)


def _find_orthogonal_part(v: Tensor, P: Tensor) -> Tensor:
    """v - PPᵀv (n,), projected twice for its own relative accuracy."""
    for _ in range(2 if len(P) else 0):
        v = v - combine_rows(multiply_rows(P, v), P)
    return v


def _find_orthogonal_unit(P: Tensor, like: Tensor) -> Tensor:
    """A unit vector (n,) orthogonal to P, from the coordinate vector that is farthest from P."""
    e = torch.zeros_like(like)
    e[int((P**2).sum(dim=0).argmin()) if len(P) else 0] = 1
    u = _find_orthogonal_part(e, P)
    return u / norm(u)
