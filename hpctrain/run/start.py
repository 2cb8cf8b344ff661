"""Where a run begins: at the problem's own parameters, or at those that another run ended with."""

import torch
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.job.settings import Job
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.base import Problem
from hpctrain.store.run_file import read_run


def choose_start(job: Job, problem: Problem, communicator: Communicator) -> Tensor:
    """θ₀ (n,); collective.

    Raises:
        InputError: `start` is no run that has ended, or its parameters are not as many.
    """
    theta = problem.make_initial_parameters(job.seed)
    if job.start is None:
        return theta
    path = job.start
    found = communicator.run_on_root(lambda: read_run(path).parameters)
    if found is None:
        raise InputError(f"start = {path!r} is not allowed: the run has not ended; resume it first")
    if len(found) != len(theta):
        raise InputError(
            f"start = {path!r} is not allowed: it has {len(found)} parameters, this network has"
            f" {len(theta)}"
        )
    return torch.as_tensor(found).to(theta)
