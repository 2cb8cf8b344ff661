"""The trust-region subproblem: min m(s) = gᵀs + ½ sᵀBs over ‖s‖ ≤ Δ, for every B and norm.

                     ‖s‖₂ ≤ Δ                            ‖s‖_∞ ≤ Δ
    B = 0            -Δ g/‖g‖                            -Δ sign(g)
    L-SR1            its global minimum (OBS)            conjugate gradients in the box
    by products      Steihaug-Toint                      conjugate gradients in the box

B by products is the exact Hessian. What is not the global minimum is at least as good as the
Cauchy point (`steihaug_cg`, `box_cg`).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hpctrain.linalg.krylov import Product
from hpctrain.linalg.krylov.box_cg import box_cg
from hpctrain.linalg.krylov.steihaug_cg import steihaug_cg
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.quasi_newton.lsr1 import Hessian

# Conjugate gradients end at min(CG_TOLERANCE, √‖g‖) ‖g‖, for fast convergence in the end.
CG_TOLERANCE = 0.1

Norm = Literal[2, "inf"]
# B: none for a linear model, with its eigenvalues, or by products.
Curvature = Hessian | Product | None


@dataclass(frozen=True)
class ModelStep:
    """s (n,), its length in the region's norm, and m(0) - m(s)."""

    step: Tensor
    length: float
    predicted: float


def length(s: Tensor, kind: Norm) -> float:
    """‖s‖₂ or ‖s‖_∞."""
    return norm(s) if kind == 2 else float(s.abs().max())


def follow_gradient(gradient: Tensor, radius: float, kind: Norm) -> Tensor:
    """The s of least gᵀs with ‖s‖ ≤ Δ; 0 where g = 0."""
    if kind == "inf":
        return -radius * torch.sign(gradient)
    size = norm(gradient)
    return gradient * (-radius / size) if size != 0 else torch.zeros_like(gradient)


def minimise_model(
    B: Curvature, gradient: Tensor, radius: float, kind: Norm, cg_iterations: int
) -> ModelStep:
    """A step that decreases the model within the trust region; see the table above."""
    if B is None:
        s = follow_gradient(gradient, radius, kind)
        return ModelStep(s, length(s, kind), -dot(gradient, s))
    if isinstance(B, Hessian) and kind == 2:
        optimal = B.minimise(gradient, radius)
        s, size = optimal.step, norm(optimal.step)
        # With (B + σI) s = -g no product is left of m(0) - m(s), and no difference.
        return ModelStep(s, size, 0.5 * (optimal.sigma * size**2 - dot(gradient, s)))
    product = B.multiply_vector if isinstance(B, Hessian) else B
    tolerance = min(CG_TOLERANCE, math.sqrt(norm(gradient)))
    solve = steihaug_cg if kind == 2 else box_cg
    found = solve(product, gradient, radius, tolerance, cg_iterations)
    return ModelStep(found.step, length(found.step, kind), found.predicted)
