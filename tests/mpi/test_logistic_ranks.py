"""Logistic regression by the sampling methods on several ranks against one."""

import numpy as np
import pytest
import torch

from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.logistic.problem import LabelledRows, LogisticProblem
from hpctrain.solvers import make_solver
from hpctrain.solvers.astrom import ASTROMOptions
from hpctrain.solvers.base import Setting
from hpctrain.solvers.mlvr import MLVROptions
from hpctrain.solvers.mlvr_krylov import MLVRKrylovOptions
from hpctrain.solvers.variance_reduction import NewtonOptions, SSNOptions, SVRGOptions

SAMPLES, N, CHUNKS, SEED = 70, 5, 8, 4
METHODS = [
    (MLVROptions(), 4),
    (MLVROptions(levels=3, cycle="F", coarse_solver="lbfgs", resample="cycle"), 2),
    (
        MLVROptions(
            coarse_samples=1, resample="step", coarse_solver="gradient-descent",
            learning_rate=0.1, coarse_steps=20, pre_smoothing=0, post_smoothing=0, control="none",
        ),
        2,
    ),
    (MLVRKrylovOptions(levels=3, coarsening_factor=3.0), 4),
    (SVRGOptions(learning_rate=0.1, inner_steps=30), 3),
    (SVRGOptions(name="sarah", learning_rate=0.1, inner_steps=30), 3),
    (SSNOptions(share=0.2, learning_rate=0.5), 5),
    (NewtonOptions(), 4),
    (ASTROMOptions(share=0.05), 8),
]  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "sparse"])
def problem(request):
    from scipy.sparse import csr_array

    random = np.random.default_rng(0)
    rows = random.standard_normal((SAMPLES, N)) * (random.random((SAMPLES, N)) < 0.7)
    labels = np.where(rows.sum(axis=1) + random.standard_normal(SAMPLES) > 0, 1.0, -1.0)
    return LogisticProblem(LabelledRows(csr_array(rows) if request.param else rows, labels), "test")


def setting_on(problem, communicator):
    return Setting(Objective.of(problem, communicator, CHUNKS), SEED)


def states(problem, communicator, options, steps):
    solver = make_solver(setting_on(problem, communicator), options)
    state = solver.init(torch.zeros(N, dtype=torch.float64))
    thetas = []
    for _ in range(steps):
        state, _ = solver.step(state)
        thetas.append(state.point.theta)
    return thetas, solver.setting.counts


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize(
    ("options", "steps"), METHODS, ids=lambda value: getattr(value, "name", "")
)
def test_iterates_and_counts_are_those_of_one_rank_to_the_bit(
    comm, assert_everywhere, problem, options, steps
):
    alone, own_counts = states(problem, Communicator(), options, steps)
    together, counts = states(problem, comm, options, steps)
    same = all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    if comm.size & (comm.size - 1) == 0:
        assert_everywhere(same, "the iterates have equal bits")
    for a, b in zip(alone, together, strict=True):
        close = torch.allclose(a, b, rtol=1e-9, atol=1e-11)
        assert_everywhere(close, "the iterates are equal to round-off")
    assert_everywhere(counts == own_counts, "the work is the same")


def test_single_sample_steps_send_nothing_but_their_samples(comm, assert_everywhere, problem):
    """An epoch's messages: those of one gathering and of one full gradient, however many steps."""
    sent = []
    for inner_steps in (10, 200):
        solver = make_solver(setting_on(problem, comm), SVRGOptions(inner_steps=inner_steps))
        state = solver.init(torch.zeros(N, dtype=torch.float64))
        before = comm.traffic.messages
        solver.step(state)
        sent.append(comm.traffic.messages - before)
    assert_everywhere(sent[0] == sent[1], "messages do not grow with the steps")


def test_the_minimum_is_the_same_on_all_ranks(comm, assert_everywhere, problem):
    minimum = problem.make_monitor(comm, CHUNKS, 1).minimum
    alone = problem.make_monitor(Communicator(), CHUNKS, 1).minimum
    assert_everywhere(abs(minimum - alone) <= 1e-15, "L* is that of one rank")
    assert len(set(comm.allgather(minimum))) == 1
