"""Chooses the device of a rank's tensors: the CPU, or one of the GPUs of its node.

The GPU is chosen by the local rank, the rank's place among those of its node, before anything
starts a context on another one.
"""

import os
import platform
from dataclasses import dataclass

import torch

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import CPU
from hpctrain.parallel.communicator import Communicator


@dataclass(frozen=True)
class Device:
    """The place of a rank's tensors.

    Attributes:
        place: the torch device.
        name: how the run file calls it, such as "cpu" or a GPU's model.
        is_shared: whether another rank has the same GPU.
    """

    place: torch.device
    name: str
    is_shared: bool = False

    @property
    def is_gpu(self) -> bool:
        return self.place.type != "cpu"


HOST = Device(CPU, "cpu")


def choose_device(requested: str, ranks: Communicator) -> Device:
    """This rank's device, made current; collective.

    Args:
        requested: "cpu", "cuda", or "auto" for GPUs where every rank sees one.

    Raises:
        InputError: on all ranks, if GPUs are asked for and a rank sees none.
    """
    if requested == "cpu":
        return HOST
    hosts = ranks.allgather(None if count_gpus() else platform.node())
    lacking = [rank for rank, host in enumerate(hosts) if host is not None]
    if not lacking:
        return _take_own_gpu(ranks)
    if requested == "auto":
        return HOST
    reason = "this torch is built without CUDA" if torch.version.cuda is None else "no GPU is seen"
    raise InputError(
        f'parallel.device = "cuda" is not possible: {reason} on {hosts[lacking[0]]}'
        f" (rank {lacking[0]} of {ranks.size})"
    )


def count_gpus() -> int:
    """How many GPUs torch could use in this process; starts no context."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_gpu(local_rank: int, visible: int) -> int:
    """The GPU of a rank: its own by local rank, in turn if there are fewer than ranks.

    A launcher that gives each rank its own GPU leaves one visible, which is number 0 to each.
    """
    return local_rank % visible


def _take_own_gpu(ranks: Communicator) -> Device:
    # Read when cuBLAS starts: its workspace must not depend on the stream.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    local_rank = ranks.find_node_ranks().index(ranks.rank)
    place = torch.device("cuda", choose_gpu(local_rank, count_gpus()))
    torch.cuda.set_device(place)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    properties = torch.cuda.get_device_properties(place)
    own = str(properties.uuid)
    return Device(place, properties.name, ranks.allgather(own).count(own) > 1)
