"""A random sketch of the residuals and their Jacobian: few sums that stand for many rows.

Source: Charikar, Chen, Farach-Colton, Finding frequent items in data streams (2002).
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator


@dataclass(frozen=True)
class Sketch:
    """The sketch S [r J] of the residuals r and their Jacobian J at one θ; see `Residuals.sketch`.

    Attributes:
        rows: S [r J] (k, 1 + n), whole on every rank.
        signs: the sign, ± 1, of each row of [r J].
        groups: how many rows of the sketch come from each chunk of samples.
        counts: how many rows of the sketch come from each rank.
    """

    rows: Tensor
    signs: Tensor
    groups: int
    counts: list[int]


def draw_signs(rows: int, seed: int, iteration: int) -> Tensor:
    """Draws a random sign, + 1 or - 1, for each of `rows` rows: int8, on the CPU.

    Args:
        rows: how many signs.
        seed, iteration: determine the signs, whatever the rank.
    """
    drawn = make_generator(seed, "sketch", iteration).integers(0, 2, rows, dtype=np.int8)
    return to_tensor(2 * drawn - 1)
