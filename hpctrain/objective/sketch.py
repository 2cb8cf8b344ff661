"""Random sketches of the residuals and of their Jacobian.

Source: Charikar, Chen, Farach-Colton, Finding frequent items in data streams (2002).
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator


@dataclass(frozen=True)
class Sketch:
    """Rows of S [r J] at one θ.

    Attributes:
        rows: S [r J] (k, 1 + n), on every rank.
        signs: of all rows.
        groups: rows from each chunk of samples.
        counts: rows from each rank.
    """

    rows: Tensor
    signs: Tensor
    groups: int
    counts: list[int]


def draw_signs(rows: int, seed: int, iteration: int) -> Tensor:
    """± 1 for each row, int8, on the CPU."""
    drawn = make_generator(seed, "sketch", iteration).integers(0, 2, rows, dtype=np.int8)
    return to_tensor(2 * drawn - 1)
