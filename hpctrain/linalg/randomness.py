"""Random numbers as a function of (seed, purpose, indices), whatever the rank or order of calls.

Code of the user's own draws from generators that a process has one of each: torch's, NumPy's and
Python's. For its time they are seeded alike on all ranks, and then put back.
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


def make_generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A generator of its own for every purpose and every block, sample or iteration index."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *indices])


@dataclass(frozen=True)
class GlobalGenerators:
    """The states of the generators that a process has one of each."""

    of_torch: Tensor
    of_numpy: tuple[Any, ...]
    of_python: tuple[Any, ...]

    @classmethod
    def capture(cls) -> "GlobalGenerators":
        return cls(torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate())  # type: ignore[arg-type]

    def restore(self) -> None:
        torch.set_rng_state(self.of_torch)
        np.random.set_state(self.of_numpy)
        random.setstate(self.of_python)

    def differ_from(self, other: "GlobalGenerators") -> bool:
        """Whether any was drawn from, or seeded, in between."""
        numpy, others = self.of_numpy, other.of_numpy
        return not (
            torch.equal(self.of_torch, other.of_torch)
            and np.array_equal(numpy[1], others[1])
            and numpy[2:] == others[2:]
            and self.of_python == other.of_python
        )


@contextmanager
def keep_generators() -> Iterator[None]:
    """Whatever is drawn within, the global generators go on as if nothing had been."""
    before = GlobalGenerators.capture()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def seed_generators(seed: int, purpose: str) -> Iterator[None]:
    """Within, the global generators depend on (seed, purpose) alone; then they are put back."""
    with keep_generators():
        drawn = int(make_generator(seed, purpose).integers(2**63))
        torch.default_generator.manual_seed(drawn)
        np.random.seed(drawn % 2**32)
        random.seed(drawn)
        yield
