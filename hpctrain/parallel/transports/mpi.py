"""MPI as transport: host memory in place, or GPU memory where the library itself takes it.

mpi4py passes no stream to MPI: what the GPU still computes must be finished before MPI reads a
buffer, so the stream is waited for before every call. Calls block but for `start_broadcast`, so
that nothing is left to be waited for after them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.parallel.cuda_support import describe_cuda_support, find_cuda_support
from hpctrain.parallel.transports.base import Holder, Offer, Transport


class HostMPI(Transport):
    """Tensors in host memory, as the buffers that they are: no copies and no pickles.

    Args:
        mpi: an mpi4py communicator, which stays its owner's.
    """

    name = "mpi"

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi

    def exchange(self, sent: Tensor, received: Tensor, partner: int) -> None:
        self._mpi.Sendrecv(self._view(sent), partner, recvbuf=self._view(received), source=partner)

    def send(self, tensor: Tensor, destination: int) -> None:
        self._mpi.Send(self._view(tensor), destination)

    def receive(self, tensor: Tensor, source: int) -> None:
        self._mpi.Recv(self._view(tensor), source)

    def broadcast(self, tensor: Tensor, root: int) -> None:
        self._mpi.Bcast(self._view(tensor), root)

    def start_broadcast(self, tensor: Tensor, root: int) -> Callable[[], None]:
        return self._mpi.Ibcast(self._view(tensor), root).Wait

    def gather(self, local: Tensor, joined: Tensor, sizes: Sequence[int]) -> None:
        self._mpi.Allgatherv(self._view(local), [self._view(joined), sizes])

    def split(self, mpi: Any) -> Transport:
        return type(self)(mpi)

    def close(self) -> None:
        """The communicator is its owner's."""

    def _view(self, tensor: Tensor) -> np.ndarray | Tensor:
        """The tensor as mpi4py takes it, without a copy."""
        return tensor.detach().numpy()


class DeviceMPI(HostMPI):
    """Tensors in GPU memory, whose addresses go to MPI by `__cuda_array_interface__`.

    Only for a library that reports it (`hpctrain.parallel.cuda_support`): any other one takes the
    addresses for its own and ends in a segmentation fault.
    """

    name = "mpi-gpu"

    def _view(self, tensor: Tensor) -> np.ndarray | Tensor:
        torch.cuda.current_stream(tensor.device).synchronize()
        return tensor.detach()


def _find_obstacle_to_gpu_memory(device: Holder) -> str | None:
    if not device.is_gpu:
        return f"tensors are on the {device.place}, and it carries those of GPUs"
    if not find_cuda_support():
        return f"the MPI library takes CUDA buffers: {describe_cuda_support(find_cuda_support())}"
    return None


OFFERS = (
    Offer("mpi", HostMPI, lambda _: None),
    Offer(
        "mpi-gpu",
        DeviceMPI,
        _find_obstacle_to_gpu_memory,
        takes_gpu_memory=True,
        is_default_on_gpus=True,
    ),
)
