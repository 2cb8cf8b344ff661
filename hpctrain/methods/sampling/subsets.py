"""Random subsets of the samples, as a function of (seed, indices) alone."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.linalg.randomness import make_generator
from hpctrain.objective import Objective, evaluate_point
from hpctrain.options import Options

# So many samples travel to all ranks at a time, for steps that take one or a few each.
GATHERED = 512


class SampleLevels(Options):
    """Nested levels of fewer and fewer samples."""

    levels: int = Field(2, ge=2, description="L, the finest one with all samples included")
    coarsening_factor: float = Field(
        2.0, ge=1, description="how many times fewer samples a level has than the next finer one"
    )
    coarse_samples: int | None = Field(
        None, ge=1, description="|D¹| in place of what the factor gives"
    )


def find_level_sizes(options: SampleLevels, samples: int) -> list[int]:
    """|D^l| of the levels below the finest, descending.

    Raises:
        InputError: a level would have no sample, or more than the next finer one.
    """
    sizes = [round(samples / options.coarsening_factor**k) for k in range(1, options.levels)]
    if options.coarse_samples is not None:
        sizes[-1] = options.coarse_samples
    above = samples
    for size in sizes:
        if not 1 <= size <= above:
            raise InputError(
                f"solver.coarsening_factor = {options.coarsening_factor:g}: a level of {size}"
                f" samples below one of {above} is not possible"
            )
        above = size
    return sizes


def draw_subset(seed: int, samples: int, size: int, *indices: int) -> Tensor:
    """Numbers of `size` of the samples, ascending, without repetition."""
    random = make_generator(seed, "subset", *indices)
    chosen = random.choice(samples, size, replace=False, shuffle=False)
    return to_tensor(np.sort(chosen))


def draw_nested_subsets(
    seed: int, samples: int, sizes: Sequence[int], *indices: int
) -> list[Tensor]:
    """Random subsets of the given descending sizes, each a part of the one before it."""
    subsets: list[Tensor] = []
    for depth, size in enumerate(sizes):
        whole = len(subsets[-1]) if subsets else samples
        chosen = draw_subset(seed, whole, size, *indices, depth)
        subsets.append(subsets[-1][chosen] if subsets else chosen)
    return subsets


def draw_subsets(
    objective: Objective, size: int, steps: int, seed: int, *indices: int
) -> Iterator[Objective]:
    """The mean over a subset of its own for each step, that of `draw_subset(…, step)`.

    Small ones are gathered on every rank, many at a time, so that their evaluations take no
    messages and no time that depends on |D|. To go on is collective.
    """
    if size > GATHERED or not objective.is_portable:
        for t in range(steps):
            yield objective.subset(draw_subset(seed, objective.samples, size, *indices, t))
        return
    for gathered in _gather_samples(objective, size, steps, seed, *indices):
        for start in range(0, gathered.samples, size):
            yield gathered.subset(torch.arange(start, start + size, device="cpu"))


def draw_sample_gradients(
    objective: Objective, steps: int, seed: int, *indices: int
) -> Iterator[Callable[[Tensor], Tensor]]:
    """θ ↦ ∇ℓ_j(θ) of one sample for each step, the sample that `draw_subsets` of size 1 draws.

    To go on is collective. A step takes a few passes over n numbers and no more.
    """
    if not objective.is_portable:
        for sample in draw_subsets(objective, 1, steps, seed, *indices):
            yield partial(_evaluate_gradient, sample)
        return
    for gathered in _gather_samples(objective, 1, steps, seed, *indices):
        for place in range(gathered.samples):
            yield partial(gathered.evaluate_sample_gradient, place)


def _gather_samples(
    objective: Objective, size: int, steps: int, seed: int, *indices: int
) -> Iterator[Objective]:
    """The subsets of `GATHERED` samples' worth of steps at a time, one after the other."""
    batch = GATHERED // size
    for first in range(0, steps, batch):
        draws = range(first, min(first + batch, steps))
        chosen = [draw_subset(seed, objective.samples, size, *indices, t) for t in draws]
        yield objective.gather_samples(torch.cat(chosen))


def _evaluate_gradient(objective: Objective, theta: Tensor) -> Tensor:
    return evaluate_point(objective, theta).gradient


def add_overlap(own: Tensor, samples: int, percent: float, random: np.random.Generator) -> Tensor:
    """Some of the samples 0 … |D| - 1, and so many percent of the others, ascending."""
    if percent == 0 or len(own) == samples:
        return own
    others = np.setdiff1d(np.arange(samples), to_array(own), assume_unique=True)
    count = math.ceil(percent / 100 * len(others))
    drawn = random.choice(others, count, replace=False, shuffle=False)
    return torch.cat([own, to_tensor(drawn)]).sort().values


def count_share(share: float, samples: int) -> int:
    """|D¹| for a share of |D|: at least one sample."""
    return max(1, round(share * samples))
