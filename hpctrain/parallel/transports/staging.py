"""Carries tensors of a GPU over a transport that takes host memory only.

They are copied to host memory before a call, and back after it. The copies lie in pinned memory,
which the GPU reads and writes directly. It is allocated once and grows when it must.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hpctrain.parallel.transports.base import Transport


class Staged(Transport):
    """Copies tensors to the host, calls `carrier`, and copies them back; it waits for each copy."""

    def __init__(self, carrier: Transport) -> None:
        self.name = f"{carrier.name}, staged"
        self._carrier = carrier
        self._sent, self._received = _Staging(), _Staging()

    def exchange(self, sent: Tensor, received: Tensor, partner: int) -> None:
        host = self._received.make_like(received)
        self._carrier.exchange(self._sent.copy(sent), host, partner)
        received.copy_(host)

    def send(self, tensor: Tensor, destination: int) -> None:
        self._carrier.send(self._sent.copy(tensor), destination)

    def receive(self, tensor: Tensor, source: int) -> None:
        host = self._received.make_like(tensor)
        self._carrier.receive(host, source)
        tensor.copy_(host)

    def broadcast(self, tensor: Tensor, root: int) -> None:
        host = self._sent.copy(tensor)
        self._carrier.broadcast(host, root)
        tensor.copy_(host)

    def gather(self, local: Tensor, joined: Tensor, sizes: Sequence[int]) -> None:
        host = self._received.make_like(joined)
        self._carrier.gather(self._sent.copy(local), host, sizes)
        joined.copy_(host)

    def split(self, mpi: Any) -> Transport:
        return Staged(self._carrier.split(mpi))

    def close(self) -> None:
        self._carrier.close()


class _Staging:
    """Host memory that is used for all calls."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8, device="cpu")

    def make_like(self, tensor: Tensor) -> Tensor:
        """Returns host memory of the shape and type of a tensor."""
        size = tensor.numel() * tensor.element_size()
        if size > len(self._memory):
            self._memory = torch.empty(
                size, dtype=torch.uint8, device="cpu", pin_memory=tensor.is_cuda
            )
        return self._memory[:size].view(tensor.dtype).view(tensor.shape)

    def copy(self, tensor: Tensor) -> Tensor:
        """Copies a tensor to host memory."""
        return self.make_like(tensor).copy_(tensor.detach())
