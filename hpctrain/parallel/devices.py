"""Chooses the device of a rank's tensors: the CPU, or one of the GPUs of its node.

The GPU depends on the local rank, the number of a rank among those of its node. It is chosen before
anything makes a context on another GPU.
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
    """The device of a rank's tensors.

    Attributes:
        place: the torch device.
        name: as the run file names it, such as "cpu" or the model of a GPU.
        is_shared: whether another rank uses the same GPU.
    """

    place: torch.device
    name: str
    is_shared: bool = False

    @property
    def is_gpu(self) -> bool:
        return self.place.type != "cpu"


HOST = Device(CPU, "cpu")


def choose_device(requested: str, ranks: Communicator) -> Device:
    """Chooses this rank's device and makes it torch's current one; collective.

    Args:
        requested: "cpu", "cuda", or "auto" for GPUs where every rank sees one.
        ranks: all ranks of the job.

    Raises:
        InputError: GPUs are asked for, and a rank sees none; on all ranks.
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
    """Counts the GPUs that torch can use in this process, without making a context on one."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_gpu(local_rank: int, visible: int) -> int:
    """Chooses a GPU for a rank: GPUs are dealt out in turn to the ranks of a node.

    Where a launcher lets each rank see its own GPU only, that is number 0 on each rank.

    Args:
        local_rank: the number of the rank among those of its node.
        visible: the number of GPUs that it sees.
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
