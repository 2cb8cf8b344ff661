"""Evenly distributed points in a geometry and on its boundary, the same on every rank.

Sources: J. M. Hammersley, Ann. New York Acad. Sci. 86 (1960); above four dimensions I. M. Sobol',
USSR Computational Mathematics and Mathematical Physics 7 (1967).
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.problems.equations.geometry.base import Geometry, GeometryError, Patch, Piece

_BASES = (2, 3, 5)
# Above so many dimensions Hammersley's last coordinates are too regular.
_MOST_HAMMERSLEY = 1 + len(_BASES)
# Points tried for one that is found before a part counts as empty, and how many are looked for.
_MOST_TRIES, _FOUND = 4096, 64

Transform = Callable[[Tensor], Tensor]
# Gives points (d, N) of the unit cube for d and N.
Cube = Callable[[int, int], Tensor]


def place_cube_points(dimension: int, count: int) -> Tensor:
    """Evenly distributed points (d, N) strictly inside the unit cube, float64, on the CPU.

    Up to four dimensions point i = 1..N is ((i − ½)/N, φ₂(i), φ₃(i), φ₅(i)), φ_b a radical inverse
    in base b. The textbook set starts at i = 0 and has i/N first, which puts points on the faces.
    Above they are Sobol's.
    """
    if dimension == 0:
        return torch.zeros(0, count, dtype=torch.float64, device="cpu")
    if dimension > _MOST_HAMMERSLEY:
        return _draw_sobol(dimension, count).clamp(1e-9, 1 - 1e-9)
    index = torch.arange(1, count + 1, device="cpu")
    rows = [(index.double() - 0.5) / count]
    rows += [radical_inverse(index, base) for base in _BASES[: dimension - 1]]
    return torch.stack(rows)


def shift_cube_points(random: np.random.Generator, dimension: int, count: int) -> Tensor:
    """The same shifted by a random vector modulo 1, another one in each call.

    Source: Cranley and Patterson, SIAM Journal on Numerical Analysis 13 (1976).
    """
    shift = to_tensor(random.random((dimension, 1)))
    return ((place_cube_points(dimension, count) + shift) % 1.0).clamp(1e-9, 1 - 1e-9)


@lru_cache(maxsize=4)
def _draw_sobol(dimension: int, count: int) -> Tensor:
    """Scrambled points (d, N) in the unit cube; kept, as all faces of a cube ask for the same."""
    from scipy.stats import qmc  # a second of every start, for the few that need it

    drawn = qmc.Sobol(dimension, scramble=True, seed=0).random_base2(_log2(count))
    return to_tensor(np.ascontiguousarray(drawn[:count].T))


def _log2(count: int) -> int:
    return max(count - 1, 1).bit_length()


def radical_inverse(index: Tensor, base: int) -> Tensor:
    """φ_b(i), in float64: the digits of the integers i in base b, mirrored at the radix point."""
    inverse = torch.zeros(index.shape, dtype=torch.float64, device=index.device)
    rest, place = index, base
    while bool(rest.any()):
        inverse += (rest % base).double() / place
        rest, place = rest // base, place * base
    return inverse


def place_interior_points(
    geometry: Geometry,
    count: int,
    move: Transform = lambda x: x,
    cube: Cube = place_cube_points,
) -> Tensor:
    """Points (d, N) inside, none on the boundary.

    Args:
        geometry: where.
        count: N.
        move: takes evenly distributed points of the bounding box, gives denser ones (d, N).
        cube: gives evenly distributed points of the unit cube.

    Raises:
        GeometryError: hardly any point of the bounding box is inside.
    """

    def inside(tried: int) -> Tensor:
        u = cube(len(geometry.bounds), tried)
        rows = zip(u, geometry.bounds, strict=True)
        points = move(torch.stack([low + (high - low) * row for row, (low, high) in rows]))
        return points[:, geometry.contains(points) & (geometry.distance(points) > 0)]

    if any(not math.isfinite(end) for pair in geometry.bounds for end in pair):
        raise GeometryError("the geometry is not bounded: cut it from a box, by &")
    empty = "the geometry is empty: no point of its bounding box is inside"
    return draw_enough(inside, count, empty)


def draw_enough(
    draw: Callable[[int], Tensor], count: int, otherwise: str, first: int | None = None
) -> Tensor:
    """`count` columns, evenly picked from a draw that is large enough.

    Args:
        draw: gives columns for a number that is tried.
        count: how many.
        otherwise: is said where hardly any are given.
        first: the number that is tried first, by default `count`.
    """
    tried = first or count
    found = draw(tried)
    while found.shape[1] < count:
        if tried > _MOST_TRIES * max(found.shape[1], min(count, _FOUND)):
            raise GeometryError(otherwise)
        ratio = count / found.shape[1] if found.shape[1] else 8.0
        tried = math.ceil(tried * min(1.05 * ratio, 8.0))
        found = draw(tried)
    if found.shape[1] == count:
        return found
    return found[:, torch.arange(count, device="cpu") * found.shape[1] // count]


def place_boundary_points(
    pieces: Sequence[Piece],
    count: int,
    chosen: Callable[[Patch], Tensor],
    what: str,
    cube: Cube = place_cube_points,
) -> tuple[Tensor, Tensor]:
    """Points (d, N) on pieces of a boundary, and the outward normals (d, N) there.

    Args:
        pieces: which share the points by their measures.
        count: N.
        chosen: says which points of a patch are wanted, (N,).
        what: is said where nothing is chosen.
        cube: gives evenly distributed points of the unit cube.

    Raises:
        GeometryError: nothing is chosen.
    """
    total = sum(piece.measure for piece in pieces)

    def draw(tried: int) -> Tensor:
        parts = []
        for piece in pieces:
            share = 1 if piece.parameters == 0 else math.ceil(tried * piece.measure / total)
            patch = piece.map(cube(piece.parameters, share))
            kept = patch.holds & chosen(patch)
            parts.append(torch.cat([patch.points, patch.normals])[:, kept])
        return torch.cat(parts, dim=1)

    if pieces and all(piece.parameters == 0 for piece in pieces):
        found = draw(1)  # the ends of an interval: there are no more points
        if not found.shape[1]:
            raise GeometryError(what)
    else:
        found = draw_enough(draw, count, what)
    points, normals = found.chunk(2)
    return points.contiguous(), normals.contiguous()
