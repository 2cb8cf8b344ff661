"""MPI as a transport: with tensors in host memory, or in GPU memory where the library can.

mpi4py does not tell MPI on which stream a GPU works. So the stream is waited for before every call,
since MPI may only read a buffer that is complete. All calls but `start_broadcast` wait for their
end.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.parallel.cuda_support import describe_cuda_support, find_cuda_support
from hpctrain.parallel.transports.base import Holder, Offer, Transport


class HostMPI(Transport):
    """Carries tensors in host memory without copies or pickles.

    Args:
        mpi: an mpi4py communicator; its owner frees it.
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
        """Does nothing, since the communicator belongs to its owner."""

    def _view(self, tensor: Tensor) -> np.ndarray | Tensor:
        """Returns a tensor as mpi4py takes it, without a copy."""
        return tensor.detach().numpy()


class DeviceMPI(HostMPI):
    """Carries tensors in GPU memory, whose addresses mpi4py hands to MPI.

    Only for a library that says that it can (`hpctrain.parallel.cuda_support`). Any other one takes
    the addresses for host memory, and ends with a segmentation fault.
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
