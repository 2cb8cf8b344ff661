"""Starts and ends a run under MPI, so that a rank that fails ends the whole job at once.

A program calls `start` first and `finish` last, on every rank. A rank that leaves in any other
way, by an uncaught exception, in a thread too, or by `sys.exit`, aborts the job with status 1; a
rank that is killed is noticed by mpirun (under srun: with `--kill-on-bad-exit=1`). Threads of a
program must be daemons: Python waits for others before it comes to the exit hook set here.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import NamedTuple, NoReturn

from hpctrain.errors import BAD_INPUT, InputError, RunError, UserCodeError
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.phases import PhaseTimer
from hpctrain.parallel.threads import find_visible_cores

# Step identifiers from here on are SLURM's own (batch script, interactive shell), not srun's.
SLURM_RESERVED_STEPS = 0xFFFFFFF0

# Launchers drop what they have not yet forwarded of a rank's output when it aborts: without a
# pause, MPICH's mpirun lost the traceback in one run of fifteen.
SECONDS_TO_FORWARD = 0.5


class LaunchError(InputError):
    """The processes that the launcher started do not form one MPI job."""


class Launched(NamedTuple):
    """How many ranks the launcher started, and the environment variable that says so."""

    size: int
    variable: str


def start(timer: PhaseTimer | None = None) -> Communicator:
    """Joins the ranks of the job. From then on a rank that fails ends the whole job.

    Args:
        timer: measures the time of the communicator's calls.

    Returns:
        The communicator of all ranks; of this one where there is no MPI library, or no launcher.

    Raises:
        LaunchError: the launcher started several processes, which do not find each other.
    """
    communicator = make_world(timer)
    if communicator.size > 1:
        _abort_on_failure(communicator.rank, communicator.size)
    return communicator


def finish(communicator: Communicator, status: int = 0) -> int:
    """Ends the run on all ranks together: waits for all, and returns the highest exit status."""
    (status,) = communicator.find_maximum([status])
    atexit.unregister(_abort_unfinished)
    return status


def leave(status: int) -> NoReturn:
    """Ends this process at once, after `finish`, without Python's clean-up.

    Where torch is imported the clean-up takes more than half a second of CPU time on each rank.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has had enough, or its disk is full
            stream.flush()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()
    os._exit(status)


def end_job(communicator: Communicator, message: str, status: int) -> NoReturn:
    """Ends all ranks at once with a status, from a rank that may be the only one that fails.

    Ranks other than 0 wait a moment first: where all ranks fail, the message of rank 0 is enough.
    """
    if not communicator.is_root:
        time.sleep(2 * SECONDS_TO_FORWARD)
    _abort(message, status)


def end_if_alone(communicator: Communicator, error: BaseException) -> None:
    """Ends the whole job where a rank may have met an error alone, for which others would wait.

    All ranks raise an `InputError` or a `RunError` alike, but for one out of a function of the
    user's. On one rank nothing is done.
    """
    if communicator.size == 1:
        return
    if isinstance(error, UserCodeError):
        end_job(communicator, f"hpctrain: {error}\n", BAD_INPUT)
    if not isinstance(error, InputError | RunError):
        end_job(communicator, "".join(traceback.format_exception(error)), 1)


def make_world(timer: PhaseTimer | None = None) -> Communicator:
    """Joins the ranks of the job as `start` does, but leaves it to the program how it ends."""
    yield_shared_cores(os.environ, len(find_visible_cores()))
    launched = find_launched_ranks(os.environ)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        check_launch(launched, 1, f"no MPI library could be loaded ({error})")
        return Communicator(timer=timer)
    library = MPI.Get_library_version().splitlines()[0].strip("\0 ")
    check_launch(launched, MPI.COMM_WORLD.Get_size(), f"MPI ({library}) sees only itself")
    return Communicator(MPI.COMM_WORLD, timer)


def find_launched_ranks(environ: Mapping[str, str]) -> Launched:
    """Reads in the environment how many ranks the launcher started; one if there was no launcher.

    The variables of mpirun count before those of SLURM. Inside an allocation mpirun starts its
    daemons by srun, so that ranks have variables of both. A batch script has SLURM_NTASKS too,
    although it is one process.
    """
    for variable in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if environ.get(variable, "").isdigit():
            return Launched(int(environ[variable]), variable)
    step = environ.get("SLURM_STEP_ID", "")
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "")
    if step.isdigit() and int(step) < SLURM_RESERVED_STEPS and tasks.isdigit():
        return Launched(int(tasks), "SLURM_STEP_NUM_TASKS")
    return Launched(1, "no launcher")


def check_launch(launched: Launched, size: int, found: str) -> None:
    """Checks that a process which was launched as one of several is not alone.

    Raises:
        LaunchError: it is alone.
    """
    if size == 1 < launched.size:
        raise LaunchError(
            f"the launcher started {launched.size} ranks ({launched.variable}), but {found}: "
            "use the mpirun of that MPI, or an srun --mpi= that it understands"
            " (pmi2 for MPICH, pmix for Open MPI; srun --mpi=list shows them)"
        )


def yield_shared_cores(environ: MutableMapping[str, str], cores: int) -> None:
    """Lets waiting ranks give up their core, where a node has more ranks than cores.

    It sets environment variables before MPI starts, unless the user has set them. Without them a
    rank that waits for a message keeps the core on which the sender should run, and calls take
    milliseconds.
    """
    local = environ.get("MPI_LOCALNRANKS") or environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or ""
    slurm = environ.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0].partition(",")[0]
    if int(local or slurm or 1) > cores:
        environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")
        environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")


def _abort_on_failure(rank: int, size: int) -> None:
    """Installs hooks by which this rank ends the job when it fails."""

    def on_exception(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        _abort(f"rank {rank} of {size} failed and ends the job:\n{text}")

    def on_thread_exception(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and args.exc_type is not SystemExit:
            on_exception(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = on_exception
    threading.excepthook = on_thread_exception
    atexit.register(_abort_unfinished, rank, size)


def _abort_unfinished(rank: int, size: int) -> None:
    _abort(f"rank {rank} of {size} left before the end of the run and ends the job\n")


def _abort(message: str, status: int = 1) -> NoReturn:
    """Writes a message to standard error, and ends all ranks."""
    from mpi4py import MPI

    atexit.unregister(_abort_unfinished)
    sys.stdout.flush()
    sys.stderr.write(message)
    sys.stderr.flush()
    time.sleep(SECONDS_TO_FORWARD)
    MPI.COMM_WORLD.Abort(status)
    os._exit(status)  # MPICH's Abort can return before the launcher has ended this process
