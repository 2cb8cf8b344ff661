"""Point sets in a box: Hammersley points to train on, denser where asked for, and test grids.

Source: J. M. Hammersley, Monte Carlo methods for solving multivariable problems, Ann. New York
Acad. Sci. 86 (1960).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Domain = tuple[tuple[float, float], ...]

_BASES = (2, 3, 5)
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


def hammersley_points(domain: Domain, count: int) -> Tensor:
    """The Hammersley set in a box of up to four dimensions.

    In the unit box point i = 1..N is ((i − ½)/N, φ₂(i), φ₃(i), φ₅(i)), φ_b the radical inverse in
    base b. The textbook set starts at i = 0 and has i/N first, which puts points on the faces.
    Centring the first coordinate and starting at i = 1 keeps every point strictly inside, where a
    residual can be asked for even if the lifting or the distance is not smooth on the boundary.

    Args:
        domain: a pair (low, high) for each coordinate; the first is the equidistant one.
        count: the number of points N.

    Returns:
        Coordinates (d, N), float64, on the CPU.
    """
    index = torch.arange(1, count + 1, device="cpu")
    rows = [(index.double() - 0.5) / count]
    rows += [radical_inverse(index, base) for base in _BASES[: len(domain) - 1]]
    return torch.stack(
        [low + (high - low) * row for (low, high), row in zip(domain, rows, strict=True)]
    )


def clustered(points: Tensor, domain: Domain, clusters: Sequence[Cluster]) -> Tensor:
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
            moved[coordinate] = _inverse_distribution(values, low, high, own)
    return moved


def _inverse_distribution(
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


def radical_inverse(index: Tensor, base: int) -> Tensor:
    """φ_b(i), in float64: the digits of the integers i in base b, mirrored at the radix point."""
    inverse = torch.zeros(index.shape, dtype=torch.float64, device=index.device)
    rest, place = index, base
    while bool(rest.any()):
        inverse += (rest % base).double() / place
        rest, place = rest // base, place * base
    return inverse


def grid_points(domain: Domain, counts: tuple[int, ...]) -> Tensor:
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
