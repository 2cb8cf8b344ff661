"""Soft constraints: what they impose, and the loss they make, against autograd."""

import pytest
import torch

from hpctrain.networks.dense import DenseNetwork
from hpctrain.problems.equations.conditions import Condition, SoftConstraints, conditions
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.library.diffusion_transport import DiffusionTransport
from hpctrain.problems.equations.library.klein_gordon import KleinGordon
from hpctrain.problems.equations.problem import PinnProblem

SOFT = SoftConstraints(points=7, penalty=5.0)


def soft_problem(pde):
    network = DenseNetwork(2, 5, 3, residual=False, adaptive=False)
    return PinnProblem(pde, network, points=50, soft=SOFT)


def losses(problem, rank=0, ranks=1):
    theta = problem.initial_parameters(0)
    return problem.share(8, rank, ranks, threads=1).losses(theta)


def test_conditions_are_read_off_the_hard_form():
    value_of_x = [Condition(1, 0, 0), Condition(1, 1, 0)]
    assert conditions(Burgers()) == [Condition(0, 0, 0), *value_of_x]
    assert conditions(DiffusionTransport()) == [Condition(0, 0, 0), Condition(0, 1, 0), *value_of_x]
    # Two conditions at t = 0: u, and u_t, the jet's second component.
    assert conditions(KleinGordon()) == [Condition(0, 0, 0), Condition(0, 0, 1), *value_of_x]


@pytest.mark.parametrize("kernels", ["native", "torch"])
def test_the_loss_is_the_mean_of_the_residual_and_the_weighted_means_of_the_conditions(
    kernels, monkeypatch
):
    monkeypatch.setenv("HPCTRAIN_KERNELS", kernels)
    pde, problem = KleinGordon(), soft_problem(KleinGordon())
    theta, x = problem.initial_parameters(0), problem._points.clone().requires_grad_()
    u = problem.network(theta, x)[0]
    (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    second = [torch.autograd.grad(first[i].sum(), x, retain_graph=True)[0][i] for i in (0, 1)]
    inner = slice(0, 50)
    residual = pde.residual(x, pde.jet([u, *first, *second]))[inner]
    start, slope, left, right = (slice(50 + 7 * k, 57 + 7 * k) for k in range(4))
    t = x[0]
    expected = residual.square().mean() + SOFT.penalty * (
        (u - x[1])[start].square().mean()
        + first[0][slope].square().mean()
        + (u + torch.cos(t))[left].square().mean()
        + (u - torch.cos(t))[right].square().mean()
    )
    assert bool((x[0, start] == 0).all() and (x[1, left] == -1).all() and (x[1, right] == 1).all())
    found = float(losses(problem).sum()) / problem.samples
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_ranks_have_the_chunks_of_one_rank():
    problem = soft_problem(Burgers())
    parts = torch.cat([losses(problem, rank, 2) for rank in (0, 1)])
    assert torch.equal(parts, losses(problem))


def test_the_error_is_that_of_the_network_itself():
    problem = soft_problem(Burgers())
    theta = problem.initial_parameters(0)
    grid = problem.error(8, 0, 1, 1)
    points = torch.stack(
        torch.meshgrid(
            *(torch.from_numpy(axis) for axis in problem.grid_axes().values()), indexing="ij"
        )
    ).reshape(2, -1)
    torch.testing.assert_close(grid.prediction(theta), problem.network(theta, points)[0])
