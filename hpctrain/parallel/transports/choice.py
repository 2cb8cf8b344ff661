"""Chooses the transport that a job names, or the best one that all ranks can use."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hpctrain.errors import InputError, RunError
from hpctrain.parallel import transports
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import Device
from hpctrain.parallel.transports import Staged, Transport
from hpctrain.parallel.transports.base import Offer


def find_offers() -> Iterator[Offer]:
    """Yields what the files of this folder offer, in the order of their names."""
    for module in sorted(each.name for each in pkgutil.iter_modules(transports.__path__)):
        name = f"{transports.__name__}.{module}"
        if name != __name__:
            yield from getattr(importlib.import_module(name), "OFFERS", ())


OFFERS = {offer.name: offer for offer in find_offers()}


def choose(name: str, device: Device, ranks: Communicator) -> Callable[[Any], Transport]:
    """Chooses a transport; returns what makes it out of an mpi4py communicator. Collective.

    Args:
        name: the name of an offer, or "auto". On the CPU "auto" is MPI. On GPUs it is MPI with
            buffers in GPU memory where the library says that it can, else nccl where each rank has
            a GPU of its own, else MPI with copies in host memory.
        device: the device of this rank's tensors.
        ranks: all ranks of the job.

    Raises:
        InputError: a rank cannot use the transport; on all ranks.
    """
    if name == "auto":
        name = _find_best(device, ranks)
    reason = find_obstacle(name, device)
    reasons = [each for each in ranks.allgather(reason) if each is not None]
    if reasons:
        raise InputError(f'parallel.transport = "{name}" is not possible: {reasons[0]}')
    return partial(_make, OFFERS[name], device)


@contextmanager
def carry(ranks: Communicator, name: str, device: Device) -> Iterator[Communicator]:
    """Returns a communicator with a chosen transport, which is closed at the end; collective.

    It is also closed after an error that all ranks raise. Any other error ends the job.
    """
    make = choose(name, device, ranks)
    communicator = ranks.use_transport(make)
    try:
        yield communicator
    except (InputError, RunError):
        communicator.free()
        raise
    communicator.free()


def find_obstacle(name: str, device: Device) -> str | None:
    """Says why a rank with this device cannot use a transport; None if it can."""
    return OFFERS[name].find_obstacle(device)


def list_available(device: Device) -> list[str]:
    """Lists the transports that a rank with this device can use."""
    return [name for name in OFFERS if find_obstacle(name, device) is None]


def _find_best(device: Device, ranks: Communicator) -> str:
    candidates = [
        name for name, each in OFFERS.items() if each.is_default_on_gpus and device.is_gpu
    ]
    lacking = ranks.find_maximum([find_obstacle(name, device) is not None for name in candidates])
    return next((name for name, lacks in zip(candidates, lacking, strict=True) if not lacks), "mpi")


def _make(offer: Offer, device: Device, mpi: Any) -> Transport:
    """Makes the transport; with copies in host memory where it cannot carry tensors of a GPU."""
    made = offer.make(mpi)
    return Staged(made) if device.is_gpu and not offer.takes_gpu_memory else made
