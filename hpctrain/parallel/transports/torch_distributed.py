"""torch.distributed as a transport: gloo for host memory, nccl for GPU memory.

Its process group has the ranks of MPI. Rank 0 opens a TCP store at a free port, and tells the other
ranks by MPI where it is. A process has one such group at a time; parts of it are subgroups.
"""

import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from hpctrain.parallel.transports.base import Holder, Offer, Transport

# How long a rank may keep the others waiting: as with MPI, only a failure ends the wait.
PATIENCE = timedelta(days=7)
SECONDS_TO_MEET = timedelta(minutes=5)


class TorchDistributed(Transport):
    """Carries messages as bytes, whatever their type.

    Args:
        mpi: an mpi4py communicator, whose ranks belong to the group.
        ranks: the numbers in the process group of these ranks.
        group: the subgroup; None for the whole process group.
    """

    def __init__(self, mpi: Any, ranks: Sequence[int], group: Any = None) -> None:
        self.name = dist.get_backend(group)
        self._ranks = list(ranks)
        self._rank = mpi.Get_rank()
        self._group = group
        # Groups count their members in ascending order of rank.
        self._places = [sorted(ranks).index(rank) for rank in ranks]

    @classmethod
    def start(cls, mpi: Any, backend: str) -> "TorchDistributed":
        """Makes the process group of all ranks of `mpi`; collective.

        Raises:
            RuntimeError: this process has a process group already.
        """
        if dist.is_initialized():
            raise RuntimeError("torch.distributed has a process group in this process already")
        rank, size = mpi.Get_rank(), mpi.Get_size()
        dist.init_process_group(
            backend, store=_open_store(mpi), rank=rank, world_size=size, timeout=PATIENCE
        )
        return cls(mpi, range(size))

    def exchange(self, sent: Tensor, received: Tensor, partner: int) -> None:
        other = self._ranks[partner]
        calls = [
            dist.P2POp(dist.isend, _view_bytes(sent), other, self._group),
            dist.P2POp(dist.irecv, _view_bytes(received), other, self._group),
        ]
        for request in dist.batch_isend_irecv(calls):
            request.wait()

    def send(self, tensor: Tensor, destination: int) -> None:
        dist.send(_view_bytes(tensor), self._ranks[destination], self._group)

    def receive(self, tensor: Tensor, source: int) -> None:
        dist.recv(_view_bytes(tensor), self._ranks[source], self._group)

    def broadcast(self, tensor: Tensor, root: int) -> None:
        dist.broadcast(_view_bytes(tensor), self._ranks[root], self._group)

    def gather(self, local: Tensor, joined: Tensor, sizes: Sequence[int]) -> None:
        """Gathers tensors filled up to the size of the largest, since torch wants equal sizes."""
        own, everything = _view_bytes(local), _view_bytes(joined)
        lengths = [size * local.element_size() for size in sizes]
        longest = max(lengths)
        if longest == 0:
            return
        filled = own.new_zeros(longest)
        filled[: len(own)] = own
        rows = own.new_empty(len(sizes), longest)
        dist.all_gather(list(rows), filled, self._group)
        for rank, part in enumerate(everything.split(lengths)):
            part.copy_(rows[self._places[rank], : len(part)])

    def split(self, mpi: Any) -> Transport:
        ranks = mpi.allgather(self._ranks[self._rank])
        group = dist.new_group(ranks, timeout=PATIENCE, use_local_synchronization=True)
        return TorchDistributed(mpi, ranks, group)

    def close(self) -> None:
        """Ends the process group with all its subgroups.

        Subgroups do not end before. torch names a group by its ranks, and a second group with the
        name of one that had ended would look for the members of that one.
        """
        if self._group is None:
            dist.destroy_process_group()


def _open_store(mpi: Any) -> dist.TCPStore:
    """Opens the TCP store by which the ranks find each other; the system chooses its port."""
    store, place = None, None
    if mpi.Get_rank() == 0:
        store = dist.TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False)
        place = socket.gethostname(), store.port
    host, port = mpi.bcast(place)
    # Ranks of the same machine need no name service.
    host = "127.0.0.1" if host == socket.gethostname() else host
    return store or dist.TCPStore(
        host, port, is_master=False, wait_for_workers=False, timeout=SECONDS_TO_MEET
    )


def _view_bytes(tensor: Tensor) -> Tensor:
    """Returns the memory of a contiguous tensor as bytes."""
    return tensor.detach().view(-1).view(torch.uint8)


def _find_obstacle_to_nccl(device: Holder) -> str | None:
    if not device.is_gpu:
        return f"tensors are on the {device.place}, and it carries those of GPUs"
    if device.is_shared:
        return "several ranks share a GPU"
    return _find_lack("nccl", dist.is_nccl_available)


def _find_obstacle_to_gloo(device: Holder) -> str | None:
    return _find_lack("gloo", dist.is_gloo_available)


def _find_lack(backend: str, is_available: Callable[[], bool]) -> str | None:
    has_backend = dist.is_available() and is_available()
    return None if has_backend else f"this torch is built without {backend}"


OFFERS = (
    Offer(
        "nccl",
        lambda mpi: TorchDistributed.start(mpi, "nccl"),
        _find_obstacle_to_nccl,
        takes_gpu_memory=True,
        is_default_on_gpus=True,
    ),
    Offer("gloo", lambda mpi: TorchDistributed.start(mpi, "gloo"), _find_obstacle_to_gloo),
)
