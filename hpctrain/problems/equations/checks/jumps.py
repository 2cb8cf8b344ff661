"""Finds where a lifting or a distance jumps, or its slope does, which a residual does not see.

Along lines through the domain the second differences of evenly spaced values are largest beside a
jump. The intervals there are cut into parts again and again, and the part over which the values
change most is kept: a smooth function's change falls with the width, a jump's stays. Of a function
that is differentiated twice along a coordinate its slope is searched too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetShape
from hpctrain.problems.equations.ansatz import Function, compute_gradient, join_coordinates
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.exact import FieldForm
from hpctrain.problems.equations.geometry.sampling import place_interior_points

# Lines along each coordinate, points on each, and intervals of each that are looked into.
_LINES, _POINTS, _KEPT = 4, 257, 4
# An interval is cut into so many parts; its change after some rounds is compared with a later one.
_PARTS, _EARLY, _LATE = 16, 5, 9
# The least jump that counts, relative to the largest value.
_LEAST = 1e-6
# Coordinates that are looked along.
_MOST_COORDINATES = 4


@dataclass(frozen=True)
class _Lines:
    """Points (d, L, M) on lines: `along` (L,) is the coordinate that changes on each."""

    points: Tensor
    along: Tensor

    def quantity(self, function: Function, of_slope: bool) -> Tensor:
        """The function's values, or its slope along the line of each point (L, M)."""
        with torch.enable_grad():
            coordinates = [row.requires_grad_() for row in self.points.flatten(1)]
            value = function(join_coordinates(coordinates))
            slopes = compute_gradient(value, coordinates) if of_slope else [value]
        wanted = torch.stack(list(slopes)).detach().view(-1, *self.points.shape[1:])
        rows = self.along if of_slope else torch.zeros_like(self.along)
        return wanted[rows, torch.arange(len(rows), device="cpu")].nan_to_num()


def describe_jumps(field: str, form: FieldForm, frame: Frame, shape: JetShape) -> Iterator[str]:
    """A line for each of G and D of a field that jumps along a coordinate, naming the place.

    Args:
        shape: of the jet that the equation needs: says along what derivatives are taken.
    """
    for function, called in ((form.lifting, "G"), (form.distance, "D")):
        for order, what in ((1, ""), (2, "the slope of ")):
            found = _largest_jump(function, frame, shape, order)
            if found is not None:
                coordinate, point, size = found
                yield (
                    f"{what}{form.place}: {called} of {field} jumps by {size:.3g} along"
                    f" {frame.axes.names[coordinate]} at {frame.axes.describe(point)}: the residual"
                    " does not see it there, make it smooth"
                )
                break


def _largest_jump(
    function: Function, frame: Frame, shape: JetShape, order: int
) -> tuple[int, Tensor, float] | None:
    """The coordinate, the point (d,) and the size of the largest jump that is found.

    Args:
        function: G or D.
        order: 1 for jumps of the value, 2 for those of the slope.
    """
    twice = order == 2
    along = {i for index in shape.indices for i in index if index.count(i) >= order}
    along |= set(shape.laplacian)
    coordinates = sorted(along)[:_MOST_COORDINATES]
    if not coordinates:
        return None
    lines = _coarse_lines(frame, coordinates)
    values = lines.quantity(function, twice)
    least = _LEAST * float(values.abs().max())
    lines = _keep_suspicious(lines, values)
    changes = []
    for _ in range(_LATE):
        lines, change = _narrow(lines, function, twice)
        changes.append(change)
    late = torch.where(changes[-1] > 0.5 * changes[_EARLY - 1], changes[-1], 0.0)
    size, k = late.max(dim=0)
    if float(size) <= least:
        return None
    return int(lines.along[k]), lines.points[:, k].mean(dim=1), float(size)


def _coarse_lines(frame: Frame, coordinates: list[int]) -> _Lines:
    starts = place_interior_points(frame.region, _LINES)
    points = starts[:, None, :, None].repeat(1, len(coordinates), 1, _POINTS)
    for k, coordinate in enumerate(coordinates):
        points[coordinate, k] = torch.linspace(
            *frame.region.bounds[coordinate], _POINTS, dtype=torch.float64, device="cpu"
        )
    along = torch.tensor(coordinates, device="cpu").repeat_interleave(_LINES)
    return _Lines(points.flatten(1, 2), along)


def _keep_suspicious(lines: _Lines, values: Tensor) -> _Lines:
    """Of each line the pairs of intervals with the largest second differences, as lines."""
    bends = (values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]).abs()
    middle = 1 + bends.topk(_KEPT, dim=1).indices.flatten()
    row = torch.arange(len(values), device="cpu").repeat_interleave(_KEPT)
    ends = [lines.points[:, row, middle + side] for side in (-1, 1)]
    return _Lines(torch.stack(ends, dim=2), lines.along[row])


def _narrow(lines: _Lines, function: Function, of_slope: bool) -> tuple[_Lines, Tensor]:
    """The part of each line over which the function changes most, and that change (L,)."""
    low, high = lines.points[:, :, :1], lines.points[:, :, -1:]
    ratios = torch.linspace(0, 1, _PARTS + 1, dtype=torch.float64, device="cpu")
    cut = low + (high - low) * ratios
    values = _Lines(cut, lines.along).quantity(function, of_slope)
    change, part = values.diff(dim=1).abs().max(dim=1)
    row = torch.arange(len(part), device="cpu")
    ends = torch.stack([cut[:, row, part], cut[:, row, part + 1]], dim=2)
    return _Lines(ends, lines.along), change
