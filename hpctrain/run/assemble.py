"""From a job file to the objects of a run: problem, objective, stages, monitor, observers."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from hpctrain.errors import InputError
from hpctrain.job.settings import Job
from hpctrain.job.stages import name_stages
from hpctrain.job.stop import list_asked
from hpctrain.linalg.arrays import CPU
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import Device
from hpctrain.parallel.threads import set_threads
from hpctrain.problems.base import Monitor, Problem, RenewableProblem, Renewal
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.run.memory import keep_freed_memory
from hpctrain.run.observers import Observers
from hpctrain.run.observers.callbacks import Callback, Callbacks
from hpctrain.run.observers.checkpoints import Checkpoints
from hpctrain.run.observers.history import History
from hpctrain.run.observers.progress import Progress
from hpctrain.run.observers.validation import Validation
from hpctrain.run.output import Output
from hpctrain.run.parts import Parts, Place
from hpctrain.run.stages import find_stages, warn_of_order
from hpctrain.solvers import Solver


def make_problem(job: Job, device: torch.device = CPU) -> Problem:
    """The problem that the job names, with its network.

    Args:
        job: the checked job.
        device: where its loss is evaluated, and θ lives.

    Raises:
        InputError: a file that the job names cannot be used.
    """
    problem = job.problem.make(job.network, job.seed, job.precision, device)
    if job.parallel.chunks > problem.samples:
        raise InputError(
            f"parallel.chunks = {job.parallel.chunks} is not allowed: at most {problem.samples},"
            f" the number of samples of {problem.describe()}"
        )
    return problem


def check_ranks_agree(problem: Problem, communicator: Communicator) -> None:
    """Whether all ranks have made the same network; collective.

    Raises:
        InputError: on all ranks, if one has other values: from a file of its own, or by the order
            of a set.
    """
    if not isinstance(problem, ClassificationProblem):
        return
    sums = communicator.allgather(problem.network.checksum())
    other = next((rank for rank, each in enumerate(sums) if each != sums[0]), None)
    if other is not None:
        raise InputError(
            f"{problem.network.name}: rank {other} makes it with other values than rank 0 does:"
            " what it is made of must not depend on the process or the node"
        )


def check_ranks(job: Job, ranks: int, resumed: bool) -> None:
    """Sees to it that each rank gets a chunk of the samples.

    Raises:
        InputError: there are more ranks than chunks.
    """
    chunks = job.parallel.chunks
    if ranks <= chunks:
        return
    enough = 1 << (ranks - 1).bit_length()
    remedy = (
        "as a run that goes on keeps its chunks, on which its numbers depend"
        if resumed
        else f"or --set parallel.chunks={enough} (a power of two; other chunks change the results"
        " by round-off)"
    )
    raise InputError(
        f"parallel.chunks = {chunks} is not allowed on {ranks} ranks: start at most {chunks} ranks,"
        f" {remedy}"
    )


def make_parts(job: Job, ranks: Communicator, device: Device) -> Parts:
    """What the run of a job is made of, on all ranks; collective.

    Raises:
        InputError: a file that the job names cannot be used, the problem does not give what the
            solver needs or the job is to stop by, or ranks make different networks.
    """
    place = _prepare_place(job, ranks, device)
    problem = ranks.run_on_all(lambda: make_problem(job, device.place))
    check_ranks_agree(problem, ranks)
    for caution in (*problem.cautions, *warn_of_order(job)) if ranks.is_root else ():
        warnings.warn(caution, stacklevel=2)
    objective = make_objective(job, problem, ranks, place.threads)
    stages = find_stages(job, objective)
    composed = stages.try_all()
    monitor = make_monitor(job, problem, ranks, place.threads)
    # Ranks trace at points of their own: what the first of them lacks is what the run says.
    untraced = next((each for each in ranks.allgather(objective.untraced) if each), None)
    renewal = make_renewal(job, problem, objective)
    return Parts(job, place, problem, objective, stages, composed, monitor, untraced, renewal)


def make_observers(
    parts: Parts, output: Output, callbacks: Sequence[Callback], progress: bool
) -> Observers:
    """What watches a run, and writes it where `output` says.

    Args:
        callbacks: called with each iteration.
        progress: whether it is shown.
    """
    job, ranks = parts.job, parts.place.ranks
    history = History(parts, output)
    return Observers(
        validation=Validation(parts.monitor, job.output.error_every),
        history=history,
        progress=Progress(job.stop.max_iterations, progress and ranks.is_root),
        checkpoints=Checkpoints(parts, output, history.sync),
        callbacks=Callbacks(callbacks),
        timer=ranks.timer,
    )


def _prepare_place(job: Job, ranks: Communicator, device: Device) -> Place:
    threads = set_threads(ranks, job.parallel.threads)
    keep_freed_memory()
    leave_threads_to_kernels(job)
    # On a GPU it is the GPU that computes.
    return Place(ranks, 1 if device.is_gpu else threads, device)


def make_monitor(job: Job, problem: Problem, communicator: Communicator, threads: int) -> Monitor:
    """What measures the parameters beyond their loss; collective.

    Raises:
        InputError: the job is to stop by what this problem cannot measure.
    """
    monitor = problem.monitor(communicator, job.parallel.chunks, threads)
    stages = [(f"{key}.stop", stage.stop) for key, stage in name_stages(job.solver)]
    for place, stop in (("stop", job.stop), *stages):
        for criterion, value in list_asked(stop):
            if criterion.shown and criterion.quantity not in monitor.columns:
                raise InputError(
                    f"{place}.{criterion.key} = {value:g} is not allowed: problem.name ="
                    f' "{job.problem.name}" has no reference to measure it by'
                )
    return monitor


def make_objective(
    job: Job, problem: Problem, communicator: Communicator, threads: int
) -> Objective:
    """The job's loss on all ranks of `communicator`, its work counted from zero."""
    chunks = job.parallel.chunks
    return communicator.run_on_all(lambda: Objective.of(problem, communicator, chunks, threads))


def make_renewal(job: Job, problem: Problem, objective: Objective) -> Renewal | None:
    """What changes the problem's loss in the course of the run; None where it is fixed."""
    if not isinstance(problem, RenewableProblem):
        return None
    return problem.make_renewal(objective, job.seed)


def make_job_solver(job: Job, objective: Objective) -> Solver[Any]:
    """The solver of a job's first stage on the objective's ranks; collective.

    Raises:
        InputError: the problem does not give what the solver needs; a solver of the user's own has
            no such class, fails, or does not take the job's settings.
    """
    return find_stages(job, objective).make_solver(1)


def choose_device_name(job: Job) -> str:
    """The job's `parallel.device`; "auto" is the CPU where the loss is evaluated there anyway."""
    if job.parallel.device == "auto" and job.problem.evaluates_on_cpu:
        return "cpu"
    return job.parallel.device


def leave_threads_to_kernels(job: Job) -> None:
    """One thread for torch, if others are there to use the cores.

    These are the native kernels of PINNs, and the threads that divide the samples of other problems
    among themselves. Two thread pools in a process take the cores from each other: their workers
    spin after work.
    """
    if not job.problem.uses_torch_threads:
        torch.set_num_threads(1)
