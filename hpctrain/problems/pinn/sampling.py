"""Point sets in a box: Hammersley points to train on, tensor grids to test on.

Source: J. M. Hammersley, Monte Carlo methods for solving multivariable problems, Ann. New York
Acad. Sci. 86 (1960).
"""

import math

import torch
from torch import Tensor

Domain = tuple[tuple[float, float], ...]

_BASES = (2, 3, 5)


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
        Coordinates (d, N), float64.
    """
    index = torch.arange(1, count + 1)
    rows = [(index.double() - 0.5) / count]
    rows += [radical_inverse(index, base) for base in _BASES[: len(domain) - 1]]
    return torch.stack(
        [low + (high - low) * row for (low, high), row in zip(domain, rows, strict=True)]
    )


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
        torch.linspace(low, high, count, dtype=torch.float64)
        for (low, high), count in zip(domain, counts, strict=True)
    ]
    grids = torch.meshgrid(*axes, indexing="ij")
    return torch.stack(grids).reshape(len(domain), math.prod(counts))
