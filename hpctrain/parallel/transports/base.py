"""The interface of transports, which carry the tensors of a communicator's calls.

Only tensors are carried by them. Flags, objects and errors are always sent by MPI. A transport
copies numbers and never adds them, so that sums have the same bits over any transport.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Transport(ABC):
    """Carries contiguous tensors among the ranks of one mpi4py communicator.

    Sender and receiver name tensors of the same shape and type. When a call returns, torch can read
    what it has written. `exchange`, `send` and `receive` are calls of two ranks; all others are
    collective.
    """

    name: str

    @abstractmethod
    def exchange(self, sent: Tensor, received: Tensor, partner: int) -> None:
        """Sends a tensor to a rank and receives one from it at once; their sizes may differ."""

    @abstractmethod
    def send(self, tensor: Tensor, destination: int) -> None:
        """Sends a tensor to a rank, which calls `receive`."""

    @abstractmethod
    def receive(self, tensor: Tensor, source: int) -> None:
        """Overwrites the tensor with the one that the rank `source` sends."""

    @abstractmethod
    def broadcast(self, tensor: Tensor, root: int) -> None:
        """Overwrites the tensor with that of the rank `root`."""

    def start_broadcast(self, tensor: Tensor, root: int) -> Callable[[], None]:
        """Starts a broadcast, and returns a function that waits for its end.

        The tensor must not be used before that function has returned. This default waits at once.
        """
        self.broadcast(tensor, root)
        return _wait_for_nothing

    @abstractmethod
    def gather(self, local: Tensor, joined: Tensor, sizes: Sequence[int]) -> None:
        """Writes the tensors of all ranks one after the other into `joined`, on every rank.

        Args:
            local: this rank's tensor, sizes[rank] numbers.
            joined: sum(sizes) numbers.
            sizes: by rank.
        """

    @abstractmethod
    def split(self, mpi: Any) -> "Transport":
        """Makes a transport among the ranks of `mpi`, which are some of this one's; collective."""

    @abstractmethod
    def close(self) -> None:
        """Releases what the transport has started; only after all messages have arrived."""


class Holder(Protocol):
    """The device of a rank's tensors, as a transport asks for it; see `parallel.devices.Device`."""

    @property
    def place(self) -> torch.device: ...

    @property
    def is_shared(self) -> bool: ...

    @property
    def is_gpu(self) -> bool: ...


@dataclass(frozen=True)
class Offer:
    """A transport that a job can name. A file of this folder offers it by listing it in `OFFERS`.

    Attributes:
        name: its name in `parallel.transport`.
        make: makes it out of an mpi4py communicator.
        find_obstacle: says why a rank with a device cannot use it; None if it can.
        takes_gpu_memory: whether it carries tensors of a GPU without a copy in host memory.
        is_default_on_gpus: whether "auto" may choose it on GPUs; the first such offer is taken.
    """

    name: str
    make: Callable[[Any], Transport]
    find_obstacle: Callable[[Holder], str | None]
    takes_gpu_memory: bool = False
    is_default_on_gpus: bool = False


def _wait_for_nothing() -> None:
    """Does nothing: it waits for a broadcast that has ended."""
