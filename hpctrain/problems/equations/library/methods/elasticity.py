"""Linear elasticity of an isotropic body: stresses, forces and tractions by displacements.

    σ = λ (∇·u) I + μ (∇u + ∇uᵀ),    ∇·σ = (λ + μ) ∇(∇·u) + μ Δu

Source: L. D. Landau, E. M. Lifshitz, Theory of Elasticity, Pergamon (1970), sections 2, 4 and 7.
"""

from dataclasses import dataclass
from typing import Any

from hpctrain.problems.equations.fields import At, Field


@dataclass(frozen=True)
class Material:
    """Lamé's constants λ and μ, in units of a stress."""

    lam: float
    mu: float

    def find_forces(self, u: Field, v: Field, w: Field) -> tuple[Any, Any, Any]:
        """The components of ∇·σ."""
        a, mu = self.lam + self.mu, self.mu
        return (
            a * (u.xx + v.xy + w.xz) + mu * u.laplacian,
            a * (u.xy + v.yy + w.yz) + mu * v.laplacian,
            a * (u.xz + v.yz + w.zz) + mu * w.laplacian,
        )

    def find_traction(self, at: At, u: Field, v: Field, w: Field) -> tuple[Any, Any, Any]:
        """The components of σ n by the outward normal n."""
        n, mu = at.normal, self.mu
        pressure = self.lam * (u.x + v.y + w.z)
        xy, xz, yz = mu * (u.y + v.x), mu * (u.z + w.x), mu * (v.z + w.y)
        return (
            (pressure + 2 * mu * u.x) * n.x + xy * n.y + xz * n.z,
            xy * n.x + (pressure + 2 * mu * v.y) * n.y + yz * n.z,
            xz * n.x + yz * n.y + (pressure + 2 * mu * w.z) * n.z,
        )
