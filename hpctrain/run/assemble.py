"""From a job file to the objects of a run: problem, objective, stages, monitor, observers."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from hpctrain.errors import InputError
from hpctrain.job.kept_settings import list_kept
from hpctrain.job.settings import Job
from hpctrain.job.stop import list_asked
from hpctrain.kernels.builds import VARIABLE
from hpctrain.linalg.arrays import CPU
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import Device
from hpctrain.parallel.threads import set_threads
from hpctrain.problems.base import Monitor, Problem, RenewableProblem
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.run.memory import keep_freed_memory
from hpctrain.run.observers import Observers
from hpctrain.run.observers.callbacks import Callback, Callbacks
from hpctrain.run.observers.checkpoints import Checkpoints
from hpctrain.run.observers.history import COLUMNS, EPOCH, STAGE, History
from hpctrain.run.observers.progress import Progress
from hpctrain.run.observers.validation import Validation
from hpctrain.run.output import Output
from hpctrain.run.parts import Parts, Place
from hpctrain.run.stages import Stages, find_stages
from hpctrain.solvers import Solver


def make_problem(job: Job, device: torch.device = CPU) -> Problem:
    """Makes the problem that the job names, with its network.

    Args:
        job: the checked job.
        device: where its loss is evaluated, and θ lives.

    Raises:
        InputError: a file that the job names cannot be used.
    """
    return job.problem.make(job.network, job.seed, job.precision, device)


def check_ranks_agree(problem: Problem, communicator: Communicator) -> None:
    """Checks that all ranks have made the same network; collective.

    Raises:
        InputError: on all ranks, if one has other values: from a file of its own, or by the order
            of a set.
    """
    if not isinstance(problem, ClassificationProblem):
        return
    other = communicator.find_different(problem.network.checksum())
    if other is not None:
        raise InputError(
            f"{problem.network.name}: rank {other} makes it with other values than rank 0 does:"
            " what it is made of must not depend on the process or the node"
        )


def list_mixed_kernels(place: Place) -> list[str]:
    """Lists a caution where ranks have kernels of several builds; collective."""
    kernels = sorted(set(place.ranks.allgather(place.kernels)))
    if len(kernels) == 1:
        return []
    return [
        f"ranks have several kernels, {' and '.join(kernels)}, which round differently: the numbers"
        f" are not those of other ranks; {VARIABLE} names one for all"
    ]


def check_ranks(chunks: int, ranks: int, resumed: bool) -> None:
    """Checks that each rank gets a chunk of the samples.

    Raises:
        InputError: there are more ranks than chunks.
    """
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


def choose_chunks(asked: int, problem: Problem, ranks: int) -> int:
    """The number of chunks, a power of two: as many as asked, or fewer if a sample is in each.

    Raises:
        InputError: there are more ranks.
    """
    chunks = min(asked, 1 << problem.samples.bit_length() - 1)
    if ranks > chunks:
        raise InputError(
            f"{problem.samples} samples are cut into {chunks} chunks: start at most {chunks} ranks"
        )
    return chunks


def check_columns(measured: Sequence[str], others: Sequence[str]) -> None:
    """Checks that no column of the history has two meanings.

    Args:
        measured: columns of the monitor, some of which have names that the user gave to unknowns.
        others: of solvers and of what renews the loss.

    Raises:
        InputError: one has.
    """
    taken = {*COLUMNS, EPOCH, STAGE, *others}
    for place, name in enumerate(measured):
        if name in taken or name in measured[:place]:
            raise InputError(
                f"an unknown of the problem is named {name}, as a column of the history is: it must"
                f" have a name other than {', '.join(sorted(taken | set(measured) - {name}))}"
            )


def make_parts(job: Job, ranks: Communicator, device: Device) -> Parts:
    """Makes the parts of a job's run on all ranks; collective.

    Each part gets those settings of the job that it needs, not the whole job.

    Raises:
        InputError: a file that the job names cannot be used, the problem does not give what the
            solver needs or the job is to stop by, or ranks make different networks.
    """
    place = _prepare_place(ranks, device, job.parallel.threads, job.problem.uses_torch_threads)
    problem = ranks.run_on_all(lambda: make_problem(job, device.place))
    check_ranks_agree(problem, ranks)
    _warn([*problem.cautions, *list_mixed_kernels(place)], ranks)
    chunks = choose_chunks(job.parallel.chunks, problem, ranks.size)
    objective = make_objective(problem, ranks, chunks, place.threads)
    stages = find_stages(job.solver, job.problem.windows, objective, job.seed)
    _warn(stages.warn_of_order(job.stop.max_iterations), ranks)
    composed = stages.try_all()
    monitor = problem.make_monitor(ranks, chunks, place.threads)
    check_measures(monitor, job.stop, stages, job.problem.name)
    # Ranks trace at points of their own: what the first of them lacks is what the run says.
    untraced = next((each for each in ranks.allgather(objective.untraced) if each), None)
    renewal = (
        problem.make_renewal(objective, job.seed) if isinstance(problem, RenewableProblem) else None
    )
    check_columns(monitor.columns, (*stages.columns, *(renewal.columns if renewal else ())))
    title = (
        f"{job.problem.name}: {problem.describe()}, n = {objective.parameters},"
        f" {job.precision}, seed {job.seed}"
    )
    return Parts(
        title, place, problem, objective, stages, composed, job.stop, monitor, untraced, renewal
    )


def make_observers(
    job: Job, parts: Parts, output: Output, callbacks: Sequence[Callback], progress: bool
) -> Observers:
    """Makes the observers of a run: what shows it to the user, and what writes it to files.

    Args:
        job: the job, which is written too.
        parts: what the run is made of.
        output: where it is written.
        callbacks: called with each iteration.
        progress: whether it is shown.
    """
    ranks, asked = parts.place.ranks, job.output
    history = History(parts, output, job, asked.iterates_every)
    return Observers(
        validation=Validation(parts.monitor, asked.error_every),
        history=history,
        progress=Progress(job.stop.max_iterations, progress and ranks.is_root),
        checkpoints=Checkpoints(
            parts, output, history.sync, asked.checkpoint_every, list_kept(job)
        ),
        callbacks=Callbacks(callbacks),
        timer=ranks.timer,
    )


def _warn(cautions: Iterable[str], ranks: Communicator) -> None:
    """Warns on rank 0."""
    for caution in cautions if ranks.is_root else ():
        warnings.warn(caution, stacklevel=3)


def _prepare_place(
    ranks: Communicator, device: Device, threads: int | None, uses_torch_threads: bool
) -> Place:
    """Sets this rank's threads.

    Args:
        threads: that the job asks for.
        uses_torch_threads: whether the problem computes in torch's threads.
    """
    found = set_threads(ranks, threads)
    keep_freed_memory()
    if not uses_torch_threads:
        leave_threads_to_kernels()
    # On a GPU it is the GPU that computes.
    return Place(ranks, 1 if device.is_gpu else found, device)


def check_measures(monitor: Monitor, stop: Any, stages: Stages, problem: str) -> None:
    """Checks that the run and its stages stop by what the monitor can measure.

    Args:
        monitor: the problem's.
        stop: the job's criteria.
        stages: of the run, with criteria of their own.
        problem: its name, for messages.

    Raises:
        InputError: they do not.
    """
    for place, criteria in (("stop", stop), *((f"{each.key}.stop", each.stop) for each in stages)):
        for criterion, value in list_asked(criteria):
            if criterion.shown and criterion.quantity not in monitor.columns:
                raise InputError(
                    f"{place}.{criterion.key} = {value:g} is not allowed: problem.name ="
                    f' "{problem}" has no reference to measure it by'
                )


def make_objective(
    problem: Problem, communicator: Communicator, chunks: int, threads: int
) -> Objective:
    """Makes the loss of a problem on all ranks of `communicator`, its work counted from zero."""
    return communicator.run_on_all(lambda: Objective.of(problem, communicator, chunks, threads))


def make_job_solver(job: Job, objective: Objective) -> Solver[Any]:
    """Makes the solver of a job's first stage on the objective's ranks; collective.

    Raises:
        InputError: the problem does not give what the solver needs; a solver of the user's own has
            no such class, fails, or does not take the job's settings.
    """
    return find_stages(job.solver, job.problem.windows, objective, job.seed).make_solver(1)


def leave_threads_to_kernels() -> None:
    """Sets torch to one thread, since others use the cores.

    These are the native kernels of PINNs, and the threads that divide the samples of other problems
    among themselves. Two thread pools in a process take the cores from each other: their workers
    spin after work.
    """
    torch.set_num_threads(1)
