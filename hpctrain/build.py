"""From a job file to the objects of a run: problem, objective, decomposition, solver."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from hpctrain.decomposition import Decomposition, by_layers
from hpctrain.errors import InputError
from hpctrain.job import Job
from hpctrain.kernels import native_available, precision
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Counts, Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.grid import assign_blocks, block_communicator
from hpctrain.problems.pinn import PDE
from hpctrain.problems.pinn.allen_cahn import AllenCahn
from hpctrain.problems.pinn.burgers import Burgers
from hpctrain.problems.pinn.diffusion_transport import DiffusionTransport
from hpctrain.problems.pinn.klein_gordon import KleinGordon
from hpctrain.problems.pinn.problem import PinnProblem
from hpctrain.solvers import Setting, Solver, make_solver
from hpctrain.solvers.base import LocalWork

_PDES: dict[str, type[PDE]] = {
    pde.name: pde for pde in (Burgers, KleinGordon, AllenCahn, DiffusionTransport)
}


def make_problem(job: Job) -> PinnProblem:
    """The problem and the network that the job names.

    Raises:
        InputError: a file of the user's own cannot be used.
    """
    pde = _pde(job.problem.name)
    network = DenseNetwork(
        inputs=len(pde.coordinates),
        width=job.network.width,
        depth=job.network.depth,
        residual=job.network.kind == "residual",
        adaptive=job.network.activation == "adaptive-tanh",
        time_step=job.network.time_step,
    )
    return PinnProblem(
        pde, network, job.problem.points, precision(job.precision), job.problem.scale_distance
    )


def _pde(name: str) -> PDE:
    if name in _PDES:
        return _PDES[name]()
    file, _, class_name = name.rpartition(":")
    if not Path(file).is_file():
        raise InputError(f"problem.name = {name!r}: there is no file {file} (from {Path.cwd()})")
    try:
        found = getattr(_module(file), class_name, None)
        if isinstance(found, type) and issubclass(found, PDE):
            return found()
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"problem.name = {name!r}: {file} fails with {reason}") from error
    raise InputError(f"problem.name = {name!r}: {file} has no class {class_name} of type PDE")


def _module(file: str) -> ModuleType:
    """A Python file of the user's own, imported from where it lies."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None, "job files name *.py files only"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_objective(
    job: Job, problem: PinnProblem, communicator: Communicator, threads: int
) -> Objective:
    """The job's loss on all ranks of `communicator`, its work counted from zero."""
    share = problem.share(job.parallel.chunks, communicator.rank, communicator.size, threads)
    counts = Counts(share.loss_cost, share.gradient_cost)
    return Objective(share, communicator, problem.samples, job.parallel.chunks, counts)


def make_job_solver(
    job: Job, problem: PinnProblem, objective: Objective, threads: int
) -> Solver[Any]:
    """The job's solver for its problem on the objective's ranks; collective."""
    blocks, overlap = getattr(job.solver, "blocks", 1), getattr(job.solver, "overlap", 0)
    decomposition = by_layers(problem.layers, blocks, overlap)
    local = _local_work(job, problem, objective, decomposition, threads)
    return make_solver(Setting(objective, decomposition, local, threads), job.solver)


def _local_work(
    job: Job,
    problem: PinnProblem,
    objective: Objective,
    decomposition: Decomposition,
    threads: int,
) -> LocalWork:
    """Where blocks are solved: on this rank alone, or on the group of ranks that share a block."""
    communicator = objective.communicator
    costs = [_solve_cost(problem, block.first) for block in decomposition.blocks]
    block_map = assign_blocks(costs, communicator.size)
    group = block_communicator(communicator, block_map)
    blocks = block_map.blocks[communicator.rank]
    if group.size == communicator.size:
        return LocalWork(objective, blocks, block_map.groups)
    return LocalWork(make_objective(job, problem, group, threads), blocks, block_map.groups)


def _solve_cost(problem: PinnProblem, first: int) -> int:
    """What a gradient of a block costs: it sweeps the network from the block's first layer on."""
    return sum(layer.cost for layer in problem.layers[first:])


def leave_threads_to_kernels() -> None:
    """One thread for torch, if the native kernels are there to use the others.

    Two thread pools in a process take the cores from each other: their workers spin after work.
    """
    if native_available():
        torch.set_num_threads(1)
