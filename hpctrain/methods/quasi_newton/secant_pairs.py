"""Limited-memory BFGS: the secant pairs, and H g by the two-loop recursion.

Source: Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hpctrain.linalg.vectors import dot, norm

# A pair is learnt from if sᵀy > SAFE_CURVATURE ‖s‖‖y‖: positive beyond its rounding errors.
SAFE_CURVATURE = 1e-10


def is_safe(s: Tensor, y: Tensor) -> bool:
    """Whether a pair shows a positive curvature; sᵀy and yᵀy can then be divided by."""
    sy, smallest = dot(s, y), torch.finfo(s.dtype).tiny
    return sy > SAFE_CURVATURE * norm(s) * norm(y) and min(sy, dot(y, y)) >= smallest


@dataclass
class SecantPairs:
    """The last m pairs s = θ⁺ - θ, y = ∇L(θ⁺) - ∇L(θ), each (n,), the newest last."""

    s: list[Tensor] = field(default_factory=list)
    y: list[Tensor] = field(default_factory=list)

    def store(self, s: Tensor, y: Tensor, memory: int) -> bool:
        """Adds a pair whose curvature is safely positive and drops the oldest beyond `memory`."""
        if not is_safe(s, y):
            return False
        self.s = [*self.s, s][-memory:]
        self.y = [*self.y, y][-memory:]
        return True

    def clear(self) -> None:
        self.s, self.y = [], []

    def multiply_inverse_hessian(
        self, gradient: Tensor, initial: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """H g by the two-loop recursion.

        Args:
            initial: q ↦ H₀ q; by default H₀ = (sᵀy / yᵀy) I of the newest pair, I if there is none.
        """
        q = gradient.clone()
        weights = []
        for s, y in zip(reversed(self.s), reversed(self.y), strict=True):
            rho = 1 / dot(y, s)
            alpha = rho * dot(s, q)
            q -= alpha * y
            weights.append((rho, alpha))
        if initial is not None:
            q = initial(q)
        elif self.s:
            q *= dot(self.s[-1], self.y[-1]) / dot(self.y[-1], self.y[-1])
        for s, y, (rho, alpha) in zip(self.s, self.y, reversed(weights), strict=True):
            q += (alpha - rho * dot(y, q)) * s
        return q
