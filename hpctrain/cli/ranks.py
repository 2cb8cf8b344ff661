"""Does the work of a command on the ranks of this job."""

from collections.abc import Callable
from typing import Any

from hpctrain.cli import speech
from hpctrain.errors import BAD_INPUT, InputError, RunError, UserCodeError


def run_on_ranks(work: Callable[[Any], int]) -> int:
    """Starts MPI, and ends it with the greatest status of all ranks.

    Args:
        work: takes the communicator of all ranks and gives an exit status; collective.
    """
    from hpctrain.parallel import launch

    communicator = launch.start()  # from here on a rank that fails ends the whole job
    try:
        status = work(communicator)
    except (InputError, RunError) as error:  # raised by all ranks alike
        status = BAD_INPUT if isinstance(error, InputError) else speech.FAILED
        speech.trace(error)
        if isinstance(error, UserCodeError) and communicator.size > 1:  # but this one
            launch.end_job(communicator, f"hpctrain: {error}\n", status)
        if communicator.is_root:
            speech.say(str(error))
    return launch.finish(communicator, status)
