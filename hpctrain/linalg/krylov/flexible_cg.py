"""Flexible conjugate gradients, whose preconditioner may be any map, such as other iterations.

Sources: Notay, SIAM Journal on Scientific Computing 22 (2000); Golub and Ye, SIAM Journal on
Scientific Computing 21 (1999).
"""

import torch
from torch import Tensor

from hpctrain.linalg.krylov import Product
from hpctrain.linalg.vectors import dot, norm


def flexible_cg(
    product: Product,
    right: Tensor,
    tolerance: float,
    max_iterations: int,
    preconditioner: Product | None = None,
) -> Tensor:
    """An x (n,) with Bx ≈ b, from x = 0; each direction is conjugate to the one before it.

    A preconditioner that is one fixed positive definite matrix gives preconditioned conjugate
    gradients. Where a direction has no positive curvature the iterations end.

    Args:
        product: v ↦ Bv, B symmetric (n, n).
        right: b (n,).
        tolerance: stop if ‖b - Bx‖ ≤ tolerance · ‖b‖.
        max_iterations: cap on products by B.
        preconditioner: r ↦ z ≈ B⁻¹r; by default z = r.
    """
    x, r, enough = torch.zeros_like(right), right, tolerance * norm(right)
    d = Bd = None
    for _ in range(max_iterations):
        if norm(r) <= enough:
            break
        z = r if preconditioner is None else preconditioner(r)
        d = z if d is None or Bd is None else z - dot(z, Bd) / dot(d, Bd) * d
        Bd = product(d)
        curvature = dot(d, Bd)
        if not curvature > 0:
            break
        alpha = dot(d, r) / curvature
        x, r = x + alpha * d, r - alpha * Bd
    return x
