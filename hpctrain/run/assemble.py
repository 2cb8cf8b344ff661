"""From a job file to the objects of a run: problem, objective, decomposition, solver."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpctrain.errors import InputError
from hpctrain.job.own_solver import own_solver
from hpctrain.job.settings import Job
from hpctrain.job.stop import list_asked
from hpctrain.kernels import native_available, precision
from hpctrain.linalg.arrays import CPU
from hpctrain.linalg.randomness import seeded_generators
from hpctrain.networks import classifiers
from hpctrain.networks.checks.probe import BATCH
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.module import ModuleNetwork
from hpctrain.networks.options import (
    ConvolutionalOptions,
    ConvResNetOptions,
    DenseOptions,
    DenseResNetOptions,
    FCNNOptions,
    OwnNetworkOptions,
    ResNetOptions,
)
from hpctrain.networks.residual import ResidualNetwork, convolutional_resnet, dense_resnet
from hpctrain.objective import Objective
from hpctrain.options import Options
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import Device
from hpctrain.parallel.threads import set_threads
from hpctrain.problems.base import Monitor, Problem
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.data import shipped
from hpctrain.problems.data.libsvm import read_libsvm
from hpctrain.problems.data.sets import DataSet, Part, count_classes, fit_scaling
from hpctrain.problems.equations import PDE
from hpctrain.problems.equations.checks.guard import guard
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.conditions import SoftConstraints
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.points import Cluster
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.problems.logistic.problem import LabelledRows, LogisticProblem
from hpctrain.problems.options import (
    DATA_SETS,
    ClassificationOptions,
    ClusterOptions,
    LogisticOptions,
    PinnOptions,
)
from hpctrain.run.memory import keep_freed_memory
from hpctrain.run.observers import Observers
from hpctrain.run.observers.checkpoints import Checkpoints
from hpctrain.run.observers.history import History
from hpctrain.run.observers.progress import Progress
from hpctrain.run.observers.validation import Validation
from hpctrain.run.output import Output
from hpctrain.run.parts import Parts, Place
from hpctrain.solvers import OwnSolverOptions, Setting, Solver, make_solver
from hpctrain.store.data_sets import read_data_set
from hpctrain.store.samples import read_samples
from hpctrain.user_code.own_class import own_class

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def make_problem(job: Job, device: torch.device = CPU) -> Problem:
    """The problem that the job names, with its network.

    Args:
        job: the checked job.
        device: where its loss is evaluated, and θ lives.

    Raises:
        InputError: a file that the job names cannot be used.
    """
    match job.problem:
        case PinnOptions() as problem:
            return _pinn(job, problem, device)
        case ClassificationOptions() as problem:
            return _classification(job, problem, device)
        case LogisticOptions() as problem:
            return _logistic(job, problem, device)


def _pinn(job: Job, problem: PinnOptions, device: torch.device) -> PinnProblem:
    pde = guard(_pde(problem.name))
    probe(pde, precision(job.precision), device)
    assert isinstance(job.network, DenseOptions), "the job is checked"
    network = DenseNetwork(
        inputs=len(pde.coordinates),
        width=job.network.width,
        depth=job.network.depth,
        residual=job.network.kind == "residual",
        adaptive=job.network.activation == "adaptive-tanh",
        time_step=job.network.time_step,
    )
    clusters = [_cluster(pde, number, each) for number, each in enumerate(problem.clusters)]
    soft = SoftConstraints(problem.condition_points, problem.penalty)
    return PinnProblem(
        pde,
        network,
        problem.points,
        precision(job.precision),
        problem.scale_distance,
        clusters,
        soft if problem.constraints == "soft" else None,
        device,
        job.network.scale_inputs,
    )


def _cluster(pde: PDE, number: int, options: ClusterOptions) -> Cluster:
    key, name = f"problem.clusters.{number}", options.coordinate
    if name not in pde.coordinates:
        known = ", ".join(pde.coordinates)
        raise InputError(f"{key}.coordinate = {name!r} is not allowed: one of {known}")
    index = pde.coordinates.index(name)
    low, high = pde.domain[index]
    if not low <= options.at <= high:
        raise InputError(f"{key}.at = {options.at:g} is not allowed: from {low:g} to {high:g}")
    return Cluster(index, options.at, options.width, options.share)


def _classification(
    job: Job, problem: ClassificationOptions, device: torch.device
) -> ClassificationProblem:
    data = _data(problem)
    scaling = fit_scaling(data.train, problem.scaling)
    # A module is tried on samples as it will be fed with.
    numbers = scaling(data.train.few(BATCH), np.dtype(job.precision))
    samples = torch.tensor(numbers, device=CPU)
    made = ClassificationProblem(
        data,
        _classifier(job.network, samples, data.classes, job.seed),
        job.seed,
        precision(job.precision),
        scaling,
        problem.output,
        problem.samples,
        problem.train_accuracy,
        device,
    )
    _check_chunks(job, made.samples, f"training samples of {data.name}")
    return made


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


def _check_chunks(job: Job, samples: int, of_what: str) -> None:
    if job.parallel.chunks > samples:
        raise InputError(
            f"parallel.chunks = {job.parallel.chunks} is not allowed: at most {samples},"
            f" the number of {of_what}"
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
    problem = ranks.on_all(lambda: make_problem(job, device.place))
    check_ranks_agree(problem, ranks)
    for caution in problem.cautions if ranks.is_root else ():
        warnings.warn(caution, stacklevel=2)
    objective = make_objective(job, problem, ranks, place.threads)
    solver = make_job_solver(job, objective)
    monitor = make_monitor(job, problem, ranks, place.threads)
    # Ranks trace at points of their own: what the first of them lacks is what the run says.
    untraced = next((each for each in ranks.allgather(objective.untraced) if each), None)
    return Parts(job, place, problem, objective, solver, monitor, untraced)


def make_observers(parts: Parts, output: Output) -> Observers:
    """What watches a run, and writes it where `output` says."""
    job, ranks = parts.job, parts.place.ranks
    history = History(parts, output)
    return Observers(
        validation=Validation(parts.monitor, job.output.error_every),
        history=history,
        progress=Progress(job.stop.max_iterations, ranks.is_root),
        checkpoints=Checkpoints(parts, output.path, history.sync),
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
    for criterion, value in list_asked(job.stop):
        if criterion.shown and criterion.quantity not in monitor.columns:
            raise InputError(
                f"stop.{criterion.key} = {value:g} is not allowed: problem.name ="
                f' "{job.problem.name}" has no reference to measure it by'
            )
    return monitor


def _logistic(job: Job, problem: LogisticOptions, device: torch.device) -> LogisticProblem:
    path = problem.data
    if path.endswith((".h5", ".hdf5")):
        data = LabelledRows(*read_samples(path))
    else:
        data = read_libsvm(path)
    if problem.samples is not None:
        data = LabelledRows(data.features[: problem.samples], data.labels[: problem.samples])
    made = LogisticProblem(data, path, problem.ridge, precision(job.precision), device)
    _check_chunks(job, made.samples, f"samples of {path}")
    return made


def _data(problem: ClassificationOptions) -> DataSet:
    """The data set that a job names: a shipped one, or the user's own in an HDF5 file."""
    if problem.data in DATA_SETS:
        return shipped.load(problem.data, problem.data_path)
    train, test = (
        Part(each.source, each.shape, each.labels, each.blocks)
        for each in read_data_set(Path(problem.data_path or "") / problem.data)
    )
    return DataSet(Path(problem.data).stem, train, test, count_classes(train))


def _classifier(options: Options, samples: Tensor, classes: int, seed: int) -> ModuleNetwork:
    """The network that a job names, for samples such as these (N, …)."""
    shape = tuple(samples.shape[1:])
    match options:
        case FCNNOptions():
            inputs, activation = math.prod(shape), _ACTIVATIONS[options.activation]
            make = partial(classifiers.fcnn, inputs, options.hidden, classes, activation)
            widths = "-".join(map(str, (inputs, *options.hidden, classes)))
            name = f"fcnn {widths} ({options.activation})"
            return ModuleNetwork(name, make, shape, seed, samples)
        case ConvolutionalOptions():
            build = {"lenet": classifiers.lenet, "resnet-18": classifiers.resnet18}[options.kind]
            make = partial(build, shape, classes)
            return ModuleNetwork(options.kind, make, shape, seed, samples)
        case DenseResNetOptions() | ConvResNetOptions():
            return _residual_classifier(options, samples, classes, seed)
        case OwnNetworkOptions():
            with seeded_generators(seed, "network file"):
                made = own_class("network.kind", options.kind, nn.Module)
            return ModuleNetwork(options.kind, made, shape, seed, samples)
    raise TypeError(f"{options} is no network for classification: the job is checked")


def _residual_classifier(
    options: ResNetOptions, samples: Tensor, classes: int, seed: int
) -> ResidualNetwork:
    o, activation = options, _ACTIVATIONS[options.activation]
    shape = tuple(samples.shape[1:])
    make: Callable[[int], nn.Module]
    match o:
        case DenseResNetOptions():
            inputs = math.prod(shape)
            name = f"dense-resnet {inputs}-{o.width}-{classes}"
            make = partial(dense_resnet, inputs, o.width, classes, o.time, activation)
        case ConvResNetOptions():
            name = f"conv-resnet {'-'.join(map(str, o.filters))}"
            make = partial(
                convolutional_resnet,
                shape,
                o.filters,
                classes,
                o.time,
                activation,
                o.first_stride,
            )
        case _:
            raise TypeError(f"{o} is no residual classifier")
    title = f"{name} ({o.activation}), T = {o.time:g}"
    return ResidualNetwork(title, make, shape, o.blocks, seed, samples)


def _pde(name: str) -> PDE:
    if name in EQUATIONS:
        return EQUATIONS[name]()
    return own_class("problem.name", name, PDE)()  # type: ignore[type-abstract]


def make_objective(
    job: Job, problem: Problem, communicator: Communicator, threads: int
) -> Objective:
    """The job's loss on all ranks of `communicator`, its work counted from zero."""
    chunks = job.parallel.chunks
    return communicator.on_all(lambda: Objective.of(problem, communicator, chunks, threads))


def make_job_solver(job: Job, objective: Objective) -> Solver[Any]:
    """The job's solver for its problem on the objective's ranks; collective.

    Raises:
        InputError: the problem does not give what the solver needs; a solver of the user's own has
            no such class, fails, or does not take the job's settings.
    """
    setting, options = Setting(objective, job.seed), job.solver
    if not isinstance(options, OwnSolverOptions):
        return make_solver(setting, options)
    found = objective.communicator.on_all(lambda: own_solver(options))
    return found.solver(setting, found.options)


def wanted_device(job: Job) -> str:
    """The job's `parallel.device`; "auto" is the CPU where the loss is evaluated there anyway."""
    if job.parallel.device == "auto" and isinstance(job.problem, LogisticOptions):
        return "cpu"
    return job.parallel.device


def leave_threads_to_kernels(job: Job) -> None:
    """One thread for torch, if others are there to use the cores.

    These are the native kernels of PINNs, and the threads that divide the samples of other problems
    among themselves. Two thread pools in a process take the cores from each other: their workers
    spin after work.
    """
    if native_available() or not isinstance(job.problem, PinnOptions):
        torch.set_num_threads(1)
