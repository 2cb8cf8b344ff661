"""Random numbers as a function of (seed, purpose, indices), whatever the rank or order of calls."""

import zlib

import numpy as np


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A generator of its own for every purpose and every block, sample or iteration index."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *indices])
