"""Mini-batches: every epoch a partition of the samples in a random order, equal on all ranks.

An epoch has ⌈|D| / size⌉ batches, whose sizes differ by one at most: none is larger than asked for,
and none is small because it got what was left. Of samples of several kinds (strata) each batch has
its share of every kind, to within one sample, and at least one: kinds of fewer samples than there
are batches come again within an epoch. Within its kind each sample is as likely as the others.
"""

from functools import lru_cache
from itertools import accumulate

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator


def count_batches(samples: int, size: int) -> int:
    """How many batches an epoch has."""
    return -(-samples // size)


def batch(seed: int, epoch: int, index: int, size: int, *strata: int) -> Tensor:
    """The numbers of the samples in batch `index` of an epoch, ascending.

    Args:
        seed: of the order, with the epoch.
        size: the most samples that a batch has; to within one of each kind if there are several.
        strata: samples of each kind, numbered one kind after the other.
    """
    count = count_batches(sum(strata), size)
    if not 0 <= index < count:
        raise ValueError(f"an epoch has the batches 0 to {count - 1}, not {index}")
    parts = []
    for kind, (samples, end) in enumerate(zip(strata, accumulate(strata), strict=True)):
        first, last = (each * samples // count for each in (index, index + 1))
        chosen = _draw_order(seed, epoch, kind, samples)[first : max(last, first + 1)]
        parts.append(np.sort(chosen) + (end - samples))
    return to_tensor(np.concatenate(parts))


@lru_cache(maxsize=32)
def _draw_order(seed: int, epoch: int, kind: int, samples: int) -> np.ndarray:
    indices = (epoch, kind) if kind else (epoch,)
    return make_generator(seed, "batches", *indices).permutation(samples)
