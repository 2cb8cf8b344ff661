"""APTS on several ranks: the same iterates as on one, whatever subdomains a rank works on."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from hpctrain.job.settings import parse_job
from hpctrain.networks.module import ModuleNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.data.sets import DataSet, Part
from hpctrain.run import assemble as build

JOB = """
precision = "{precision}"
[problem]
name = "classification"
data = "mnist"
[network]
kind = "fcnn"
[solver]
{solver}
[parallel]
chunks = 8
"""
SOLVERS = {
    "data, linear": 'name = "apts-data"\nmodel = "linear"\nsubdomains = 4',
    "data, lsr1, batches": 'name = "apts-data"\nsubdomains = 4\nbatch_size = 120\ndebug = true',
    "data, two shares": 'name = "apts-data"\nsubdomains = 2\nsample_overlap = 5.0\ndebug = true',
    "data, hessian": 'name = "apts-data"\nmodel = "hessian"\nsubdomains = 3\ncg_iterations = 3',
    "weights, linear, tensors": 'name = "apts-weights"\nmodel = "linear"\nblocks = 6\n'
    'pieces = "tensors"',
    "weights, lsr1, batches": 'name = "apts-weights"\nblocks = 2\nbatch_size = 100\ndebug = true',
    "trust region, batches": 'name = "trust-region"\nbatch_size = 100',
    "trust region, growing": 'name = "trust-region"\nsampling = "growing"\nsample_size = 40',
    "trust region, hessian": 'name = "trust-region"\nmodel = "hessian"\nsampling = "hessian"\n'
    "sample_size = 64",
}
ITERATIONS = 3


def network():
    widths = [6, 8, 8, 8, 3]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def problem(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 6, generator=generator).numpy()
    labels = (x[:, 0] > 0).astype("int64") + (x[:, 1] > 0.5)
    part = Part("tiny", (6,), labels, lambda: iter([x]))
    data = DataSet("tiny", part, part, 3)
    return ClassificationProblem(data, ModuleNetwork("tiny", network, (6,)), dtype=dtype)


def iterates(solver, communicator, precision="float64"):
    """θ after each iteration, and the work."""
    job = parse_job(JOB.format(solver=SOLVERS[solver], precision=precision), "job")
    made = problem(getattr(torch, precision))
    objective = build.make_objective(made, communicator, job.parallel.chunks, 1)
    method = build.make_job_solver(job, objective)
    state, found = method.init(made.make_initial_parameters(0)), []
    for _ in range(ITERATIONS):
        state, _ = method.step(state)
        found.append(state.point.theta)
    return torch.stack(found), replace(objective.counts)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize(
    ("solver", "precision"),
    [
        *((solver, "float64") for solver in SOLVERS),
        *((solver, "float32") for solver in SOLVERS if "batches" in solver),
    ],
)
def test_the_iterates_and_the_work_are_those_of_one_rank(
    comm, assert_everywhere, solver, precision
):
    if precision == "float32" and comm.size & (comm.size - 1):
        pytest.skip("single precision is compared on powers of two, where bits are equal")
    alone, work = comm.run_on_root(lambda: iterates(solver, Communicator(None), precision))
    found, its = iterates(solver, comm, precision)
    assert_everywhere(bool((alone[-1] != alone[0]).any()), "it moves")
    if comm.size & (comm.size - 1) == 0:
        assert_everywhere(torch.equal(found, alone), "the same bits")
        assert_everywhere(its == work, "the same work")
    else:
        close = torch.allclose(found, alone, rtol=1e-3, atol=1e-4)
        assert_everywhere(close, "the same up to rounding")


def test_a_global_evaluation_is_one_message_round(comm, assert_everywhere):
    """A trial and a global step in the linear model: a sum each beside the gather of the steps."""
    job = parse_job(JOB.format(solver=SOLVERS["data, linear"], precision="float64"), "job")
    made = problem(torch.float64)
    objective = build.make_objective(made, comm, job.parallel.chunks, 1)
    method = build.make_job_solver(job, objective)
    state = method.init(made.make_initial_parameters(0))
    sums, sum_by_tree = [], objective.communicator.sum_by_tree
    objective.communicator.sum_by_tree = lambda *given: sums.append(1) or sum_by_tree(*given)
    gathers, gather = [], objective.communicator.allgather_rows
    objective.communicator.allgather_rows = lambda *given: gathers.append(1) or gather(*given)
    own = method.subdomains.work.own
    shared = any(each.objective.communicator is objective.communicator for each in own.values())
    method.step(state)
    objective.communicator.sum_by_tree, objective.communicator.allgather_rows = sum_by_tree, gather
    assert_everywhere(len(gathers) == 1, "one gather")
    assert_everywhere(shared or len(sums) == 2, "one sum for the trial, one for the global step")
