"""Closed boundaries of straight facets: edges in the plane, triangles in space.

Sources: A. Van Oosterom, J. Strackee, IEEE Trans. Biomed. Eng. 30 (1983), 125-126, for the solid
angle of a triangle; A. Jacobson, L. Kavan, O. Sorkine-Hornung, ACM Trans. Graph. 32 (2013), 33, for
the winding number as a test of what is inside.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hpctrain.problems.equations.geometry.base import Patch

# Pairs of a point and a facet that are looked at at a time.
_PAIRS = 1_000_000


@dataclass(frozen=True)
class Facets:
    """Facets whose corners turn so that their normals point outwards.

    Attributes:
        corners: (F, d, d), corner k of facet f at corners[f, k].
    """

    corners: Tensor

    @property
    def dimension(self) -> int:
        """d, 2 or 3."""
        return self.corners.shape[-1]

    @cached_property
    def normals(self) -> Tensor:
        """Outward unit normals (F, d)."""
        across = self._across
        return across / across.norm(dim=1, keepdim=True)

    @cached_property
    def measures(self) -> Tensor:
        """Lengths or areas (F,)."""
        return self._across.norm(dim=1) / (self.dimension - 1)

    @property
    def volume(self) -> float:
        """Area or volume inside, negative where the facets are turned the other way."""
        outward = (self.corners[:, 0] * self._across).sum(dim=1)
        return float(outward.sum()) / math.factorial(self.dimension)

    def turn(self) -> "Facets":
        """The same facets with their normals to the other side."""
        return Facets(self.corners.flip(1))

    def count_turns(self, points: Tensor) -> Tensor:
        """Winding numbers (N,) around points (d, N): 1 inside, 0 outside."""
        return torch.cat([self._wind(part) for part in self._split(points)])

    def find_distances(self, points: Tensor) -> Tensor:
        """Euclidean distances (N,) of points (d, N) from the nearest facet."""
        return torch.cat([self._measure(part) for part in self._split(points)])

    def map_cube(self, u: Tensor) -> Patch:
        """Points on the facets for parameters u (1, N) or (3, N) in the unit cube.

        The first parameter chooses the facet, by measures; in the plane it is the place, too.
        """
        shares = self.measures / self.measures.sum()
        ends = shares.cumsum(0)
        chosen = torch.searchsorted(ends, u[0].contiguous()).clamp(max=len(ends) - 1)
        corners = self.corners[chosen]
        if self.dimension == 2:
            share = (u[0] - (ends - shares)[chosen]) / shares[chosen]
            weights = torch.stack([1 - share, share])
        else:
            root = u[1].sqrt()
            weights = torch.stack([1 - root, root * (1 - u[2]), root * u[2]])
        points = torch.einsum("kn,nkd->dn", weights, corners)
        holds = torch.ones(u.shape[1], dtype=torch.bool, device=u.device)
        return Patch(points, self.normals[chosen].T.contiguous(), holds)

    @property
    def _across(self) -> Tensor:
        """Normals (F, d), longer than the measure by d − 1."""
        a = self.corners[:, 0]
        if self.dimension == 2:
            along = self.corners[:, 1] - a
            return torch.stack([along[:, 1], -along[:, 0]], dim=1)
        return torch.linalg.cross(self.corners[:, 1] - a, self.corners[:, 2] - a)

    def _split(self, points: Tensor) -> tuple[Tensor, ...]:
        return points.T.split(max(1, _PAIRS // len(self.corners)))

    def _wind(self, points: Tensor) -> Tensor:
        offsets = [corner - points[:, None] for corner in self.corners.unbind(1)]
        if self.dimension == 2:
            a, b = offsets
            angle = torch.atan2(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], (a * b).sum(-1))
            return angle.sum(1) / (2 * math.pi)
        a, b, c = offsets
        A, B, C = (each.norm(dim=-1) for each in offsets)
        volume = (a * torch.linalg.cross(b, c)).sum(-1)
        rest = A * B * C + (a * b).sum(-1) * C + (b * c).sum(-1) * A + (c * a).sum(-1) * B
        return 2 * torch.atan2(volume, rest).sum(1) / (4 * math.pi)

    def _measure(self, points: Tensor) -> Tensor:
        corners = self.corners.unbind(1)
        if self.dimension == 2:
            return _distances_from_lines(points, *corners).min(dim=1).values
        a, b, c = corners
        edges = ((a, b), (b, c), (c, a))
        lines = [_distances_from_lines(points, *ends) for ends in edges]
        nearest = torch.stack(lines).min(dim=0).values
        normals = self.normals
        height = ((points[:, None] - a) * normals).sum(-1).abs()
        is_above = torch.stack(
            [
                ((points[:, None] - start) * torch.linalg.cross(normals, end - start)).sum(-1) >= 0
                for start, end in edges
            ]
        ).all(dim=0)
        return torch.where(is_above, height, nearest).min(dim=1).values


def _distances_from_lines(points: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distances (N, F) of points (N, d) from the lines between a and b (F, d)."""
    along, offset = b - a, points[:, None] - a
    share = ((offset * along).sum(-1) / along.square().sum(-1)).clamp(0, 1)
    return (offset - share[..., None] * along).norm(dim=-1)
