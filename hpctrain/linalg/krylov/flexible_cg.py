"""Conjugate gradients with a preconditioner that may change from one iteration to the next.

The preconditioner may be any map, such as some iterations of another method. Sources: Notay, SIAM
Journal on Scientific Computing 22 (2000); Golub and Ye, SIAM Journal on Scientific Computing 21
(1999).
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
    """Computes x (n,) with Bx ≈ b, starting from x = 0.

    Each direction is made conjugate to the one before it. If the preconditioner is a fixed positive
    definite matrix, this is the usual preconditioned method. It ends at a direction of nonpositive
    curvature; if that is the first one, x = b, of which B and the preconditioner say nothing.

    Args:
        product: computes Bv for v (n,), B symmetric.
        right: b (n,).
        tolerance: the iterations end where ‖b - Bx‖ ≤ tolerance · ‖b‖.
        max_iterations: the greatest number of products with B.
        preconditioner: computes z ≈ B⁻¹r for r (n,); by default z = r.
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
            return x if x.any() else right
        alpha = dot(d, r) / curvature
        x, r = x + alpha * d, r - alpha * Bd
    return x
