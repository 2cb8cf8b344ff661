"""Random numbers that depend on (seed, purpose, indices) alone, not on ranks or the order of calls.

A user's own code draws from the generators that a process has once: those of torch, NumPy and
Python. While it runs they are seeded alike on all ranks, and afterwards they are put back.
"""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.errors import InputError


def make_generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Makes the generator of a purpose, such as "sketch", and of a block, sample or iteration.

    Raises:
        InputError: the seed is negative, which a job's cannot be.
    """
    if seed < 0:
        raise InputError(f"seed = {seed} is not allowed: an integer, at least 0")
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *indices])


@dataclass(frozen=True)
class GlobalGenerators:
    """The states of the generators that a process has once: those of torch, NumPy and Python."""

    of_torch: Tensor
    of_numpy: tuple[Any, ...]
    of_python: tuple[Any, ...]

    @classmethod
    def capture(cls) -> "GlobalGenerators":
        """Takes down their states."""
        return cls(torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate())  # type: ignore[arg-type]

    def restore(self) -> None:
        """Puts the generators back into these states."""
        torch.set_rng_state(self.of_torch)
        np.random.set_state(self.of_numpy)
        random.setstate(self.of_python)

    def differ_from(self, other: "GlobalGenerators") -> bool:
        """Whether a generator was drawn from or seeded between the two."""
        numpy, others = self.of_numpy, other.of_numpy
        return not (
            torch.equal(self.of_torch, other.of_torch)
            and np.array_equal(numpy[1], others[1])
            and numpy[2:] == others[2:]
            and self.of_python == other.of_python
        )


@contextmanager
def keep_generators() -> Iterator[None]:
    """A context after which the process's generators are in the state that they had before."""
    before = GlobalGenerators.capture()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def seed_generators(seed: int, purpose: str) -> Iterator[None]:
    """A context in which the process's generators depend on (seed, purpose) alone.

    Afterwards they are in the state that they had before.
    """
    with keep_generators():
        drawn = int(make_generator(seed, purpose).integers(2**63))
        torch.default_generator.manual_seed(drawn)
        np.random.seed(drawn % 2**32)
        random.seed(drawn)
        yield
