"""Soft constraints: initial and boundary conditions as penalty terms of the loss, for u = N.

    L = (1/|D|) Σ_j R(u)(x_j)² + λ Σ_c (1/|D_c|) Σ_j (B_c u - g_c)(x_j)²

The conditions are read off G₀ and len of the hard form u = G₀ + len·N: on a face of the domain
where len is zero, u = G₀; where its normal derivative is zero too, also u_n = ∂G₀/∂n. Points of all
terms stand in one list, and each has weights that make its residual a term of one mean of squares.

Source: Raissi, Perdikaris, Karniadakis, Journal of Computational Physics 378 (2019).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import coordinates_of_order
from hpctrain.problems.equations.ansatz import jets
from hpctrain.problems.equations.points import hammersley_points
from hpctrain.problems.equations.system import PDE, ProblemError

# len and its derivative count as zero on a face if they are below this, relative to the largest.
_ZERO = 1e-12


@dataclass(frozen=True)
class SoftConstraints:
    """Points of each condition |D_c|, and the weight λ of each penalty term."""

    points: int
    penalty: float


@dataclass(frozen=True)
class Condition:
    """u, or its derivative along the coordinate of the face, is given on a face of the domain.

    Attributes:
        coordinate, end: the face, where this coordinate is at its low (0) or high (1) end.
        component: of the jet that is given, 0 for the value.
    """

    coordinate: int
    end: int
    component: int


def conditions(pde: PDE) -> list[Condition]:
    """What G₀ and len impose, face by face.

    Raises:
        ProblemError: len is zero on no face.
    """
    found, first = [], coordinates_of_order(pde.orders, 1)
    inside = jets(pde.distance, hammersley_points(pde.domain, 100), pde.orders).abs().amax(1)
    for coordinate in range(len(pde.domain)):
        for end in (0, 1):
            points = _face_points(pde, coordinate, end, 25)
            on_face = jets(pde.distance, points, pde.orders).abs().amax(1) <= _ZERO * inside
            if not on_face[0]:
                continue
            found.append(Condition(coordinate, end, 0))
            component = 1 + first.index(coordinate) if coordinate in first else 0
            if component and on_face[component]:
                found.append(Condition(coordinate, end, component))
    if not found:
        raise ProblemError(f"{pde.name}: no face has a condition, the distance is zero on none")
    return found


def _face_points(pde: PDE, coordinate: int, end: int, count: int) -> Tensor:
    """Evenly distributed points (d, count) on a face."""
    points = hammersley_points(pde.domain, count)
    # The first coordinate is the equidistant one: it serves where it is not fixed.
    points[coordinate] = pde.domain[coordinate][end]
    return points


@dataclass(frozen=True)
class PenaltyTerms:
    """All points (d, N) of the loss, and their weights in its residual.

    Attributes:
        interior: (N,), beside R(u); zero at the conditions' points.
        target: (N,), subtracted.
        weights: (c, N), beside those components of the jet of u that conditions give.
        components: c of them.
    """

    points: Tensor
    interior: Tensor
    target: Tensor
    weights: Tensor
    components: tuple[int, ...]

    def part(
        self, first: int, last: int, dtype: torch.dtype, device: torch.device
    ) -> "PenaltyTerms":
        """The points `first` … `last` - 1, on a device."""

        def part(whole: Tensor) -> Tensor:
            return whole[..., first:last].to(device, dtype).contiguous()

        return PenaltyTerms(
            part(self.points),
            part(self.interior),
            part(self.target),
            part(self.weights),
            self.components,
        )

    def residual(self, pde: PDE, u: Sequence[Any]) -> Any:
        """The weighted residual of the jet u, its components (N,) in order."""
        total = self.interior * pde.residual(self.points, pde.jet(u)) - self.target
        for component, weight in zip(self.components, self.weights, strict=True):
            total = total + weight * u[component]
        return total


def penalty_terms(pde: PDE, interior: Tensor, count: int, penalty: float) -> PenaltyTerms:
    """The terms for interior points (d, |D|), `count` points a condition, and λ."""
    found = conditions(pde)
    faces = [_face_points(pde, each.coordinate, each.end, count) for each in found]
    points = torch.cat([interior, *faces], dim=1)
    total, inner = points.shape[1], interior.shape[1]
    components = tuple(sorted({each.component for each in found}))
    inside, target = interior.new_zeros(2, total)
    weights = interior.new_zeros(len(components), total)
    inside[:inner] = math.sqrt(total / inner)
    weight = math.sqrt(penalty * total / count)
    for number, (condition, face) in enumerate(zip(found, faces, strict=True)):
        own = slice(inner + number * count, inner + (number + 1) * count)
        weights[components.index(condition.component), own] = weight
        target[own] = weight * jets(pde.lifting, face, pde.orders)[condition.component]
    return PenaltyTerms(points, inside, target, weights, components)


class NoAnsatz:
    """u = N, with the interface of `ansatz.Ansatz`."""

    def apply(self, network: Tensor) -> Tensor:
        return network

    def apply_each(self, network: Sequence[Any]) -> list[Any]:
        return list(network)

    def apply_to_values(self, network: Tensor) -> Tensor:
        return network
