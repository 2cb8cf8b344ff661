"""Where a run begins: at the problem's own parameters, or at those that another run ended with."""

import torch
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.base import Problem
from hpctrain.store.run_file import read_run


def choose_start(
    problem: Problem, seed: int, path: str | None, communicator: Communicator
) -> Tensor:
    """Chooses θ₀ (n,); collective.

    Args:
        problem: whose parameters they are.
        seed: of the problem's own θ₀.
        path: a run file whose final θ is taken instead, if any: the job's `start`.
        communicator: all ranks.

    Raises:
        InputError: the file is not that of a run that has ended, or has another number of
            parameters.
    """
    theta = problem.make_initial_parameters(seed)
    if path is None:
        return theta
    found = communicator.run_on_root(lambda: read_run(path).parameters)
    if found is None:
        raise InputError(f"start = {path!r} is not allowed: the run has not ended; resume it first")
    if len(found) != len(theta):
        raise InputError(
            f"start = {path!r} is not allowed: it has {len(found)} parameters, this network has"
            f" {len(theta)}"
        )
    return torch.as_tensor(found).to(theta)
