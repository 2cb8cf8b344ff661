"""Points that are denser where asked for, and test grids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Domain = tuple[tuple[float, float], ...]

# Halvings of an interval that leave no more than rounding errors of it.
_BISECTIONS = 60


@dataclass(frozen=True)
class Cluster:
    """Where points lie denser along a coordinate: around a layer of the solution.

    Attributes:
        coordinate: its index.
        at: the place x₀ of the layer.
        width: w, half of the cluster's points lie within x₀ ± w, if the domain is wide.
        share: part of all points that belong to the cluster, with density ∝ 1 / (w² + (x - x₀)²).
    """

    coordinate: int
    at: float
    width: float
    share: float


def move_into_clusters(points: Tensor, domain: Domain, clusters: Sequence[Cluster]) -> Tensor:
    """The points moved along each coordinate, so that clusters get their shares of them.

    Evenly distributed values are taken as those of the distribution function of a mixture, of the
    uniform density and of the clusters' densities, and inverted by bisection.

    Args:
        points: (d, N), evenly distributed in the domain, left unchanged.
        domain: a pair (low, high) for each coordinate.
    """
    moved = points.clone()
    for coordinate, (low, high) in enumerate(domain):
        own = [cluster for cluster in clusters if cluster.coordinate == coordinate]
        if own:
            values = (points[coordinate] - low) / (high - low)
            moved[coordinate] = _invert_distribution(values, low, high, own)
    return moved


def _invert_distribution(
    values: Tensor, low: float, high: float, clusters: Sequence[Cluster]
) -> Tensor:
    below, above = torch.full_like(values, low), torch.full_like(values, high)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (below + above)
        short = _distribution(middle, low, high, clusters) < values
        below, above = torch.where(short, middle, below), torch.where(short, above, middle)
    return 0.5 * (below + above)


def _distribution(x: Tensor, low: float, high: float, clusters: Sequence[Cluster]) -> Tensor:
    total = (1 - sum(cluster.share for cluster in clusters)) * (x - low) / (high - low)
    for cluster in clusters:
        start, end = (math.atan((end - cluster.at) / cluster.width) for end in (low, high))
        angle = torch.atan((x - cluster.at) / cluster.width)
        total = total + cluster.share * (angle - start) / (end - start)
    return total


def spread_over_cells(points: Tensor, coordinate: int, ends: Sequence[float]) -> Tensor:
    """The points moved along a coordinate, so that each of its cells gets as many of them.

    Args:
        points: (d, N), evenly distributed in the domain, left unchanged.
        ends: e_0 … e_S of the cells, those of the domain the first and the last.
    """
    moved, known = points.clone(), points.new_tensor(ends)
    places = (points[coordinate] - ends[0]) * ((len(ends) - 1) / (ends[-1] - ends[0]))
    cell = places.long().clamp(0, len(ends) - 2)
    moved[coordinate] = known[cell] + (places - cell) * (known[cell + 1] - known[cell])
    return moved


def make_grid_points(domain: Domain, counts: tuple[int, ...]) -> Tensor:
    """The tensor grid of equidistant points, ends included; the last coordinate runs fastest.

    Args:
        domain: a pair (low, high) for each coordinate.
        counts: the number of points along each coordinate.

    Returns:
        Coordinates (d, N), N the product of the counts, float64.
    """
    axes = [
        torch.linspace(low, high, count, dtype=torch.float64, device="cpu")
        for (low, high), count in zip(domain, counts, strict=True)
    ]
    grids = torch.meshgrid(*axes, indexing="ij")
    return torch.stack(grids).reshape(len(domain), math.prod(counts))
