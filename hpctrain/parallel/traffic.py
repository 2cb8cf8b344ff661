"""Counts the messages of a rank, and the bytes in them."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass
class Traffic:
    """Counts messages in which a rank takes part one after the other, and the bytes in them.

    A collective call of P ranks counts as ⌈log₂ P⌉ messages, as along a tree, whatever the MPI
    library does. This is what a model of latency and bandwidth needs to know.
    """

    messages: int = 0
    bytes: int = 0

    def count(self, size: int, messages: int = 1) -> None:
        """Adds a number of messages which have `size` bytes in all."""
        self.messages += messages
        self.bytes += size

    def snapshot(self) -> np.ndarray:
        """Returns the messages and bytes so far, (2,)."""
        return np.array([self.messages, self.bytes], dtype=np.float64)

    def count_broadcast(self, size: int, ranks: int) -> None:
        """Adds a broadcast; a long message is scattered and gathered, and so sent twice."""
        depth = count_steps(ranks)
        self.count(min(depth, 2) * size, depth)


def count_steps(ranks: int) -> int:
    """⌈log₂ P⌉, the messages that a call of P ranks takes one after the other."""
    return (ranks - 1).bit_length()


def count_bytes(tensor: Tensor) -> int:
    """Returns the bytes of a tensor."""
    return tensor.numel() * tensor.element_size()
