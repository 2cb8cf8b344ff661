"""Which transport a job gets: the one it names, if it can be had, or the best one there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import distributed as dist

from hpctrain.errors import InputError, RunError
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.cuda_support import in_words, reports_cuda
from hpctrain.parallel.devices import Device
from hpctrain.parallel.transports import DeviceMPI, HostMPI, Staged, Transport
from hpctrain.parallel.transports.torch_distributed import TorchDistributed

TRANSPORTS = ("mpi", "mpi-gpu", "nccl", "gloo")


def choose(name: str, device: Device, ranks: Communicator) -> Callable[[Any], Transport]:
    """What makes the transport out of an mpi4py communicator; collective over `ranks`.

    Args:
        name: one of `TRANSPORTS`, or "auto": MPI on the CPU; on GPUs MPI with their buffers where
            the library reports it, else nccl where each rank has a GPU, else MPI by host memory.
        device: where this rank's tensors live.

    Raises:
        InputError: on all ranks, if any of them cannot have the transport.
    """
    if name == "auto":
        name = _best(device, ranks)
    reason = obstacle(name, device)
    reasons = [each for each in ranks.allgather(reason) if each is not None]
    if reasons:
        raise InputError(f'parallel.transport = "{name}" is not possible: {reasons[0]}')
    return _makers(device)[name]


@contextmanager
def carry(ranks: Communicator, name: str, device: Device) -> Iterator[Communicator]:
    """Has messages carried by the transport that `choose` finds, closed at the end; collective.

    After an error that all ranks raise alike it is closed too; any other one ends the job.
    """
    communicator = ranks.carried_by(choose(name, device, ranks))
    try:
        yield communicator
    except (InputError, RunError):
        communicator.free()
        raise
    communicator.free()


def obstacle(name: str, device: Device) -> str | None:
    """Why a rank with this device cannot have this transport; None if it can."""
    match name:
        case "nccl" | "mpi-gpu" if not device.is_gpu:
            return f"tensors are on the {device.place}, and it carries those of GPUs"
        case "mpi-gpu" if not reports_cuda():
            return f"the MPI library takes CUDA buffers: {in_words(reports_cuda())}"
        case "nccl" if device.is_shared:
            return "several ranks share a GPU"
        case "nccl" | "gloo" if not _has(name):
            return f"this torch is built without {name}"
    return None


def available(device: Device) -> list[str]:
    """The transports that a rank with this device can have."""
    return [name for name in TRANSPORTS if obstacle(name, device) is None]


def _best(device: Device, ranks: Communicator) -> str:
    candidates = ("mpi-gpu", "nccl") if device.is_gpu else ()
    lacking = ranks.maximum([obstacle(name, device) is not None for name in candidates])
    return next((name for name, lacks in zip(candidates, lacking, strict=True) if not lacks), "mpi")


def _has(backend: str) -> bool:
    """Whether torch is built with it."""
    if not dist.is_available():
        return False
    return dist.is_gloo_available() if backend == "gloo" else dist.is_nccl_available()


def _makers(device: Device) -> dict[str, Callable[[Any], Transport]]:
    def by_host(make: Callable[[Any], Transport]) -> Callable[[Any], Transport]:
        return (lambda mpi: Staged(make(mpi))) if device.is_gpu else make

    return {
        "mpi": by_host(HostMPI),
        "mpi-gpu": DeviceMPI,
        "nccl": lambda mpi: TorchDistributed.start(mpi, "nccl"),
        "gloo": by_host(lambda mpi: TorchDistributed.start(mpi, "gloo")),
    }
