"""Mini-batches: every epoch a partition of the samples in a random order, equal on all ranks.

An epoch has ⌈|D| / size⌉ batches, whose sizes differ by one at most: none is larger than asked for,
and none is small because it got what was left.
"""

from functools import lru_cache

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator


def count_batches(samples: int, size: int) -> int:
    """How many batches an epoch has."""
    return -(-samples // size)


def batch(seed: int, epoch: int, index: int, size: int, samples: int) -> Tensor:
    """The numbers of the samples in batch `index` of an epoch, ascending.

    Args:
        seed: of the order, with the epoch.
        size: the most samples that a batch has.
        samples: |D|.
    """
    count = count_batches(samples, size)
    if not 0 <= index < count:
        raise ValueError(f"an epoch has the batches 0 to {count - 1}, not {index}")
    bounds = [each * samples // count for each in (index, index + 1)]
    return to_tensor(np.sort(_draw_order(seed, epoch, samples)[bounds[0] : bounds[1]]))


@lru_cache(maxsize=2)
def _draw_order(seed: int, epoch: int, samples: int) -> np.ndarray:
    return make_generator(seed, "batches", epoch).permutation(samples)
