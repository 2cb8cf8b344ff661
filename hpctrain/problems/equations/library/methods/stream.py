"""Steady flow in a square cavity whose lid slides, by Galerkin's method for the stream function.

With u = ψ_y, v = −ψ_x the Navier-Stokes equations are

    (Δψ, Δφ) / Re + (Δψ, ψ_y φ_x − ψ_x φ_y) = 0    for all φ with φ = ∂φ/∂n = 0 on the boundary.

ψ = ψ₀ + Σ_jk a_jk φ_j(x) φ_k(y), where ψ₀ has the velocity of the lid and a is found by Newton's
method. Where that velocity falls to zero linearly at an upper corner, Δψ jumps, as does that of

    S = s (r²θ/2 − π z²/4 + x z/2),    S_x = s x θ,  S_z = s (x + z (θ − π/2)),  ΔS = s (2θ − π/2),

x being the distance from the side wall, z from the lid, and θ the angle from the lid. S is
biharmonic, zero with its slope at the wall, and S_z = s x on the lid. ψ₀ has a cut-off S for each
corner, so that polynomials are left to approximate what is smoother.

Sources: J. Shen, Efficient spectral-Galerkin method I, SIAM J. Sci. Comput. 15 (1994), 1489-1505,
for the basis; O. Botella, R. Peyret, Computers & Fluids 27 (1998), 421-433, for the corners.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial import Polynomial, legendre
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor

# Points a batch: batch × degree doubles, a few of them at a time, stay in the cache.
_BATCH = 2048
# Newton's method converges from rest in 5 steps at Re = 100.
_NEWTON_STEPS = 6
_X = Polynomial([0.0, 1.0])
# 1 + O(x⁴) at 0, with a double zero at 1.
_CUT = (1 - _X) ** 2 * Polynomial([1.0, 2.0, 3.0, 4.0])
# Zero twice at y = 0; value 0 and slope 1 at the lid.
_UP = _X**2 * (_X - 1)

# A function of x and y by its derivatives: value, along x, along y, and its Laplacian.
Derivatives = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Cavity:
    """The flow in the unit square, its lid being y = 1.

    Attributes:
        lid: its velocity, with zeros at both ends.
        coefficients: a (n, n).
    """

    lid: Polynomial
    coefficients: np.ndarray

    def velocities(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """u and v (N,) at points (2, N); the order of all sums is fixed, so no BLAS here."""
        batches = [to_array(batch) for batch in points.double().split(_BATCH, dim=1)]
        pairs = [self._velocities(*batch) for batch in batches]
        u, v = (torch.cat([to_tensor(pair[i]) for pair in pairs]) for i in (0, 1))
        return u, v

    def _velocities(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        degree = len(self.coefficients) + 3
        columns, column = np.unique(x, return_inverse=True)
        rows, row = np.unique(y, return_inverse=True)
        X, dX, _ = basis(columns, degree)
        Y, dY, _ = basis(rows, degree)
        a, da = np.zeros_like(X), np.zeros_like(X)
        for j, own in enumerate(self.coefficients):
            a += X[:, j, None] * own
            da += dX[:, j, None] * own
        _, along_x, along_y, _ = lift(self.lid, x, y)
        u = along_y + (a[column] * dY[row]).sum(axis=1)
        v = -along_x - (da[column] * Y[row]).sum(axis=1)
        return u, v


def basis(x: np.ndarray, degree: int) -> tuple[np.ndarray, ...]:
    """φ_k, φ_k', φ_k'' (N, degree − 3) at x (N,) in [0, 1]; both first vanish at 0 and 1.

    φ_k is an integral of an integral of L_{k+2}, scaled so that (φ_j'', φ_k'') = δ_jk.
    """
    L = legendre.legvander(2 * x - 1, degree)
    k = np.arange(2, degree - 1)
    once = _integrals(L, np.arange(1, degree))
    twice = (once[:, 2:] - once[:, :-2]) / (2 * k + 1) / 2
    scale = np.sqrt(2 * k + 1)
    parts = (twice, once[:, 1:-1], L[:, 2 : degree - 1])
    return tuple(np.ascontiguousarray(scale * part) for part in parts)


def _integrals(L: np.ndarray, k: np.ndarray) -> np.ndarray:
    """∫₀ˣ L_k for the k >= 1 given, in order."""
    return (L[:, k + 1] - L[:, k - 1]) / (2 * k + 1) / 2


def lift(lid: Polynomial, x: np.ndarray, y: np.ndarray) -> Derivatives:
    """ψ₀ at points x, y (N,)."""
    slopes = lid.deriv()(0.0), -lid.deriv()(1.0)
    rest = lid - slopes[0] * _X * _CUT - slopes[1] * (1 - _X) * _CUT(1 - _X)
    q, up = (rest, rest.deriv(), rest.deriv(2)), (_UP, _UP.deriv(), _UP.deriv(2))
    total = [
        q[0](x) * up[0](y),
        q[1](x) * up[0](y),
        q[0](x) * up[1](y),
        q[2](x) * up[0](y) + q[0](x) * up[2](y),
    ]
    for distance, sign, slope in ((x, 1, slopes[0]), (1 - x, -1, slopes[1])):
        value, along_x, along_z, laplacian = _corner(distance, 1 - y)
        for part, own in zip(total, (value, sign * along_x, -along_z, laplacian), strict=True):
            part -= slope * own
    return tuple(total)


def _corner(x: np.ndarray, z: np.ndarray) -> Derivatives:
    """The cut-off S for s = 1, at distances x from the wall and z from the lid."""
    theta = np.arctan2(z, x)
    S = (x**2 + z**2) * theta / 2 - math.pi / 4 * z**2 + x * z / 2
    Sx, Sz, laplacian = x * theta, x + z * (theta - math.pi / 2), 2 * theta - math.pi / 2
    (c, cx, cxx), (d, dz, dzz) = ((_CUT(s), _CUT.deriv()(s), _CUT.deriv(2)(s)) for s in (x, z))
    return (
        c * d * S,
        c * d * Sx + cx * d * S,
        c * d * Sz + c * dz * S,
        c * d * laplacian + 2 * (cx * d * Sx + c * dz * Sz) + (cxx * d + c * dzz) * S,
    )


def solve(lid: Polynomial, reynolds: float, degree: int) -> Cavity:
    """The flow by polynomials of a degree in x and in y."""
    z, w = legendre.leggauss(2 * degree)
    nodes, w = (1 + z) / 2, w / 2
    at = [part.T for part in basis(nodes, degree)]
    f, df, ddf = at
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    known = [part.reshape(x.shape) for part in lift(lid, x.ravel(), y.ravel())]
    W, n = np.outer(w, w), len(f)

    def against(G: np.ndarray, in_x: np.ndarray, in_y: np.ndarray) -> np.ndarray:
        """(G, in_x_j in_y_k) for all j, k."""
        return in_x @ (W * G) @ in_y.T

    def pairs(G: np.ndarray, own: tuple[int, int], other: tuple[int, int]) -> np.ndarray:
        """(G ∂φ_lm, ∂φ_jk) for all (j, k), (l, m), with orders of ∂ along x and y."""
        in_x = (at[own[0]][:, None] * at[other[0]]).reshape(n * n, -1)
        in_y = (at[own[1]][:, None] * at[other[1]]).reshape(n * n, -1)
        both = (in_x @ (W * G) @ in_y.T).reshape(n, n, n, n)
        return both.transpose(0, 2, 1, 3).reshape(n * n, n * n)

    ones = np.ones_like(W)
    laplacians = ((2, 0), (0, 2))
    viscous = sum(pairs(ones, own, other) for own in laplacians for other in laplacians) / reynolds
    a = np.zeros((n, n))
    for _ in range(_NEWTON_STEPS):
        px = known[1] + df.T @ a @ f
        py = known[2] + f.T @ a @ df
        omega = known[3] + ddf.T @ a @ f + f.T @ a @ ddf
        residual = (against(omega, ddf, f) + against(omega, f, ddf)) / reynolds
        residual += against(omega * py, df, f) - against(omega * px, f, df)
        J = viscous + pairs(omega, (1, 0), (0, 1)) - pairs(omega, (0, 1), (1, 0))
        for other in laplacians:
            J += pairs(py, (1, 0), other) - pairs(px, (0, 1), other)
        a = a - np.linalg.solve(J, residual.ravel()).reshape(n, n)
    return Cavity(lid, a)
