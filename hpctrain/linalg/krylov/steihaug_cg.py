"""Truncated conjugate gradients for a trust-region subproblem, by products with the matrix.

    min m(s) = gᵀs + ½ sᵀBs,   ‖s‖_M ≤ Δ

Without a region, Δ = `UNBOUNDED`, it is the truncated Newton method, whose steps end before a
direction of no positive curvature.

Sources: Steihaug, SIAM Journal on Numerical Analysis 20 (1983); Toint 1981; Conn, Gould, Toint,
Trust-Region Methods (2000), algorithm 7.5.1; without a region Nocedal and Wright, Numerical
Optimization (2006), algorithm 7.1.
"""

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from hpctrain.linalg.krylov import UNBOUNDED, Product
from hpctrain.linalg.vectors import dot


class CGOutcome(Enum):
    """How truncated conjugate gradients ended."""

    CONVERGED = "the residual is small enough"
    BOUNDARY = "the next iterate would leave the trust region"
    NEGATIVE_CURVATURE = "a direction of no positive curvature, followed to the boundary if any"
    ITERATIONS = "the cap on iterations is reached"


@dataclass(frozen=True)
class CGResult:
    """A step s (n,), the number of products with B, the decrease m(0) - m(s), and how it ended."""

    step: Tensor
    iterations: int
    predicted: float
    outcome: CGOutcome


def steihaug_cg(
    product: Product,
    gradient: Tensor,
    radius: float,
    tolerance: float,
    max_iterations: int,
    preconditioner: Product | None = None,
) -> CGResult:
    """Computes a step s with ‖s‖_M ≤ Δ that lowers m at least as much as the Cauchy point.

    Args:
        product: computes Bv for v (n,). B is symmetric, not necessarily positive definite.
        gradient: g (n,).
        radius: Δ. At a direction of no positive curvature an `UNBOUNDED` step ends as it is, or is
            -M⁻¹g if that is the first direction.
        tolerance: the iterations end where ‖Bs + g‖ ≤ tolerance · ‖g‖, in the norm of M⁻¹.
        max_iterations: the greatest number of products with B.
        preconditioner: computes M⁻¹r for r (n,), M symmetric and positive definite. It also defines
            ‖s‖_M = √(sᵀMs). Without it M = I.
    """
    precondition = preconditioner if preconditioner is not None else torch.clone
    s, Ms = torch.zeros_like(gradient), torch.zeros_like(gradient)
    r, z = gradient, precondition(gradient)
    d, Md = -z, -r
    rz = first_rz = dot(r, z)
    predicted, iterations = 0.0, 0
    while rz > tolerance**2 * first_rz:
        if iterations == max_iterations:
            return CGResult(s, iterations, predicted, CGOutcome.ITERATIONS)
        Bd = product(d)
        iterations += 1
        curvature = dot(d, Bd)
        if not curvature > 0 and radius == UNBOUNDED:
            if iterations == 1:
                s, predicted = d, rz - 0.5 * curvature
            return CGResult(s, iterations, predicted, CGOutcome.NEGATIVE_CURVATURE)
        to_boundary = _find_distance(dot(d, Md), dot(s, Md), dot(s, Ms), radius)
        alpha = rz / curvature if curvature > 0 else math.inf
        if alpha >= to_boundary:
            predicted += to_boundary * (rz - 0.5 * to_boundary * curvature)
            outcome = CGOutcome.BOUNDARY if curvature > 0 else CGOutcome.NEGATIVE_CURVATURE
            return CGResult(s + to_boundary * d, iterations, predicted, outcome)
        predicted += 0.5 * alpha * rz
        s, Ms, r = s + alpha * d, Ms + alpha * Md, r + alpha * Bd
        z = precondition(r)
        old_rz, rz = rz, dot(r, z)
        beta = rz / old_rz
        d, Md = beta * d - z, beta * Md - r
    return CGResult(s, iterations, predicted, CGOutcome.CONVERGED)


def _find_distance(dMd: float, sMd: float, sMs: float, radius: float) -> float:
    """Computes τ ≥ 0 with ‖s + τ d‖_M = Δ, for sᵀMd ≥ 0; nothing cancels in the formula.

    Args:
        dMd, sMd, sMs: dᵀMd, sᵀMd and sᵀMs.
        radius: Δ.
    """
    room = max(radius**2 - sMs, 0.0)
    below = sMd + math.sqrt(sMd**2 + dMd * room)
    return math.sqrt(room) / math.sqrt(dMd) if below == 0 else room / below  # s = 0, underflow
