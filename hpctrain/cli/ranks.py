"""Does the work of a command on the ranks of this job."""

from collections.abc import Callable
from typing import Any

from hpctrain.cli import speech
from hpctrain.errors import BAD_INPUT, InputError, RunError


def run_on_ranks(work: Callable[[Any], int]) -> int:
    """Starts MPI, and ends it with the greatest status of all ranks.

    Args:
        work: takes the communicator of all ranks and gives an exit status; collective.
    """
    from hpctrain.parallel import launch

    communicator = launch.start()  # from here on a rank that fails ends the whole job
    try:
        status = work(communicator)
    except (InputError, RunError) as error:
        status = BAD_INPUT if isinstance(error, InputError) else speech.FAILED
        speech.trace(error)
        launch.end_if_alone(communicator, error)
        if communicator.is_root:
            speech.say(str(error))
    return launch.finish(communicator, status)


def set_kernel_threads(communicator: Any, requested: int | None) -> int:
    """The threads of the kernels on this rank, by default its part of the cores; collective.

    Raises:
        InputError: fewer than one are asked for, or too many to be started.
    """
    import torch

    from hpctrain.parallel.threads import check_threads, set_threads

    if requested is not None:
        check_threads(requested, f"--threads {requested}")
    threads = set_threads(communicator, requested)
    torch.set_num_threads(1)  # two pools in a process take the cores from each other
    return threads
