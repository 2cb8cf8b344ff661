"""Grids of points, as a user writes them, and the cells between their points."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hpctrain.errors import InputError

# Cells by the number of coordinates that change along them, and their corners, in VTK's order.
CELLS: dict[int, tuple[str, tuple[tuple[int, ...], ...]]] = {
    0: ("vertex", ((),)),
    1: ("line", ((0,), (1,))),
    2: ("quad", ((0, 0), (0, 1), (1, 1), (1, 0))),
    3: (
        "hexahedron",
        tuple((k, *corner) for k in (0, 1) for corner in ((0, 0), (0, 1), (1, 1), (1, 0))),
    ),
}


def parse_grid(text: str, what: str) -> dict[str, np.ndarray]:
    """Reads the coordinates of a grid, "t=0:1:101,x=0.5": low:high:count, or one number.

    Args:
        what: how messages name the text.

    Raises:
        InputError: it is no such text.
    """
    axes: dict[str, np.ndarray] = {}
    for part in text.split(","):
        name, _, given = part.partition("=")
        try:
            numbers = [float(each) for each in given.split(":")]
            low, high, count = numbers if len(numbers) == 3 else (*numbers, *numbers, 1)
            if not (count == int(count) >= 1 and all(map(math.isfinite, numbers))):
                raise ValueError
        except (ValueError, OverflowError):
            raise InputError(
                f"{what}, or a grid such as t=0:1:101,x=-1:1:201 (low:high:count, or one number)"
            ) from None
        if name.strip() in axes:
            raise InputError(f"{text!r} has {name.strip()} twice")
        axes[name.strip()] = np.linspace(low, high, int(count))
    return axes


def read_grid(axes: Mapping[str, np.ndarray], first: int, last: int) -> dict[str, np.ndarray]:
    """Returns the coordinates of points first … last - 1, of which the last one runs fastest."""
    shape = [len(values) for values in axes.values()]
    places = np.unravel_index(np.arange(first, last), shape) if shape else ()
    return {name: values[place] for (name, values), place in zip(axes.items(), places, strict=True)}


def make_cells(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Makes the cells of a grid, kind → numbers of corners (M, corners); above 3-D its points."""
    count = math.prod(shape)
    wide = [extent for extent in shape if extent > 1]
    if len(wide) > 3:
        return {"vertex": np.arange(count)[:, None]}
    kind, corners = CELLS[len(wide)]
    numbers = np.arange(count).reshape(wide)
    parts = [
        numbers[tuple(slice(k, extent - 1 + k) for k, extent in zip(corner, wide, strict=True))]
        for corner in corners
    ]
    return {kind: np.stack([part.ravel() for part in parts], axis=1)}
