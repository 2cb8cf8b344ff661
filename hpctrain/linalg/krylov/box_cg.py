"""Conjugate gradients for a trust-region subproblem in the maximum norm, whose region is a box.

    min m(s) = gᵀs + ½ sᵀBs,   |s_i| ≤ Δ

Conjugate gradients run on the free variables. Where an iterate would leave the box, two points are
compared: the point where its path meets the boundary, and the end of the path projected onto the
box, by which many variables reach their bounds at once. The better one is where conjugate gradients
start again. Variables on their bounds are held there if -∇m points outwards.

m falls from point to point, and the first one is at least as good as the Cauchy point, the minimum
of m along -g within the box. Hence a trust-region method converges as usual. If B = 0 the result is
-Δ sign(g).

Sources: Conn, Gould, Toint, SIAM Journal on Numerical Analysis 25 (1988), and Trust-Region Methods
(2000), section 7.8; the projected search: Lin, Moré, SIAM Journal on Optimization 9 (1999).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.linalg.krylov import Product
from hpctrain.linalg.krylov.steihaug_cg import CGOutcome, CGResult
from hpctrain.linalg.vectors import dot


def box_cg(
    product: Product, gradient: Tensor, radius: float, tolerance: float, max_iterations: int
) -> CGResult:
    """Computes a step s with ‖s‖_∞ ≤ Δ that lowers m at least as much as the Cauchy point.

    Args:
        product: computes Bv for v (n,). B is symmetric, not necessarily positive definite.
        gradient: g (n,).
        radius: Δ.
        tolerance: the iterations end where the gradient of m by the free variables has a norm
            ≤ tolerance · ‖g‖.
        max_iterations: the greatest number of products with B. If the first iterate meets the
            boundary there may be one more.
    """
    box = _Box(gradient.new_tensor(radius))
    s, r = torch.zeros_like(gradient), gradient
    free, d = torch.ones_like(gradient), torch.zeros_like(gradient)
    z, zz = r, dot(r, r)
    enough, predicted, products, beta = tolerance**2 * zz, 0.0, 0, 0.0
    outcome = CGOutcome.CONVERGED
    while True:
        if not zz > enough:
            now_free = box.find_free(s, r)
            z = now_free * r
            zz = dot(z, z)
            if not zz > enough:
                return CGResult(s, products, predicted, outcome)
            free, beta = now_free, 0.0
        if products >= max_iterations:
            return CGResult(s, products, predicted, CGOutcome.ITERATIONS)
        d = beta * d - z
        Bd = product(d)
        products += 1
        curvature = dot(d, Bd)
        alpha = zz / curvature if curvature > 0 else math.inf
        end = torch.add(s, d, alpha=alpha)
        if box.contains(end):
            predicted += 0.5 * alpha * zz
            s, r = end, torch.add(r, Bd, alpha=alpha)
            z = free * r
            zz, old_zz = dot(z, z), zz
            beta = zz / old_zz
            continue
        outcome = CGOutcome.BOUNDARY if curvature > 0 else CGOutcome.NEGATIVE_CURVATURE
        path = _Path(s, d, Bd, curvature, alpha)
        s, r, gain = _meet_boundary(product, box, path, r, zz)
        products, predicted = products + 1, predicted + gain
        free, beta = box.find_free(s, r), 0.0
        z = free * r
        zz = dot(z, z)


@dataclass(frozen=True)
class _Path:
    """The way s + τ d of conjugate gradients, with Bd, dᵀBd, and the end α at least."""

    s: Tensor
    d: Tensor
    Bd: Tensor
    curvature: float
    alpha: float


def _meet_boundary(
    product: Product, box: "_Box", path: _Path, r: Tensor, zz: float
) -> tuple[Tensor, Tensor, float]:
    """The better of two points on the boundary: the path's first one, its far end projected.

    Returns:
        The point, ∇m there, and by how much m falls.
    """
    s, d = path.s, path.d
    to_boundary = box.measure_distance(s, d)
    gain = to_boundary * (zz - 0.5 * to_boundary * path.curvature)
    far = box.project_end(s, d, path.alpha)
    q = far - s
    Bq = product(q)
    far_gain = -(dot(r, q) + 0.5 * dot(q, Bq))
    if far_gain > gain:
        return far, r + Bq, far_gain
    near = box.project(torch.add(s, d, alpha=to_boundary))
    return near, torch.add(r, path.Bd, alpha=to_boundary), gain


class _Box:
    """The box |s_i| ≤ Δ, with Δ rounded to the precision of s."""

    def __init__(self, bound: Tensor) -> None:
        self._bound = bound

    def contains(self, s: Tensor) -> bool:
        """Whether s lies in the box; not if it has a NaN."""
        return bool(s.abs().max() <= self._bound)

    def find_free(self, s: Tensor, r: Tensor) -> Tensor:
        """Returns 1 for free variables, 0 for those held on a bound; multiplying by it is fast.

        A variable is free where s lies inside the bounds, or -r points inwards.
        """
        return ((s.abs() < self._bound) | (s * r > 0)).to(s.dtype)

    def measure_distance(self, s: Tensor, d: Tensor) -> float:
        """Computes the largest τ with s + τ d in the box."""
        room = self._bound - s * torch.sign(d)
        return float((room / d.abs()).min())

    def project(self, s: Tensor) -> Tensor:
        """Projects s onto the box."""
        return torch.clamp(s, -self._bound, self._bound)

    def project_end(self, s: Tensor, d: Tensor, alpha: float) -> Tensor:
        """Projects s + α d onto the box."""
        if math.isinf(alpha):
            return torch.where(d == 0, s, torch.sign(d) * self._bound)
        return self.project(torch.add(s, d, alpha=alpha))
