"""The interface of transports, which carry the tensors of a communicator's calls from rank to rank.

Only tensors go this way; flags, objects and errors are MPI's whatever the transport. A transport
copies and never adds, so that sums have the same bits over any of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Transport(ABC):
    """Carries contiguous tensors among the ranks of one mpi4py communicator.

    Both ends name equal shapes and types. What a call has written can be read by torch when it
    returns. `exchange`, `send` and `receive` concern two ranks, all else is collective.
    """

    name: str

    @abstractmethod
    def exchange(self, sent: Tensor, received: Tensor, partner: int) -> None:
        """Sends to and receives from the same rank, at once; the two may differ in size."""

    @abstractmethod
    def send(self, tensor: Tensor, destination: int) -> None:
        """To one rank, which calls `receive`."""

    @abstractmethod
    def receive(self, tensor: Tensor, source: int) -> None:
        """Overwrites the tensor with what `source` sends."""

    @abstractmethod
    def broadcast(self, tensor: Tensor, root: int) -> None:
        """Overwrites the tensor with that of `root`."""

    def start_broadcast(self, tensor: Tensor, root: int) -> Callable[[], None]:
        """As `broadcast`, but the tensor is only there after what this returns was called.

        Until then the tensor is left alone. By default it is there at once.
        """
        self.broadcast(tensor, root)
        return _wait_for_nothing

    @abstractmethod
    def gather(self, local: Tensor, joined: Tensor, sizes: Sequence[int]) -> None:
        """Writes the tensors of all ranks one after the other into `joined`, on every rank.

        Args:
            local: sizes[rank] numbers.
            joined: sum(sizes) numbers.
        """

    @abstractmethod
    def split(self, mpi: Any) -> "Transport":
        """The same among the ranks of `mpi`, a part of this one's; collective over them."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what the transport has started; not before all messages have arrived."""


class Holder(Protocol):
    """Where the tensors of a rank lie; see `parallel.devices.Device`."""

    @property
    def place(self) -> torch.device: ...

    @property
    def is_shared(self) -> bool: ...

    @property
    def is_gpu(self) -> bool: ...


@dataclass(frozen=True)
class Offer:
    """A transport that a job can name; a file of this folder offers it by being there.

    Attributes:
        name: in `parallel.transport`.
        make: makes it out of an mpi4py communicator.
        find_obstacle: why a rank cannot have it, None if it can.
        takes_gpu_memory: whether it carries tensors of a GPU without a copy on the host.
        is_default_on_gpus: whether "auto" takes it there, before any other that comes later.
    """

    name: str
    make: Callable[[Any], Transport]
    find_obstacle: Callable[[Holder], str | None]
    takes_gpu_memory: bool = False
    is_default_on_gpus: bool = False


def _wait_for_nothing() -> None:
    """Waits for a broadcast that has ended."""
