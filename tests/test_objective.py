"""The objective of the Burgers problem: gradients, restriction to blocks, counts of work."""

import pytest
import torch

from hpctrain.decomposition.blocks import cut_layers
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Counts, Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.problem import Formulation, PinnProblem

CHUNKS = 8


@pytest.fixture
def problem():
    network = DenseNetwork(2, 10, 5, residual=True, adaptive=True)
    return PinnProblem(Burgers(), network, Formulation(200))


@pytest.fixture
def objective(problem):
    share = problem.share(CHUNKS, rank=0, ranks=1, threads=1)
    counts = Counts(share.loss_cost, share.gradient_cost)
    return Objective(share, Communicator(), problem.samples, CHUNKS, counts)


@pytest.fixture
def theta(problem):
    return problem.make_initial_parameters(seed=0)


def test_the_loss_is_the_mean_squared_residual_by_nested_autograd(problem, objective, theta):
    x = points = problem.terms[0].points.clone().requires_grad_()
    (network,) = problem.network.parts
    u = -torch.sin(torch.pi * x[1]) + x[0] * (1 - x[1] ** 2) * network(theta, x)[0]
    (gradient,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(gradient[1].sum(), points)
    residual = gradient[0] + u * gradient[1] - Burgers.nu * second[1]
    assert objective.evaluate(theta).loss == pytest.approx(
        float(residual.square().mean()), rel=1e-13
    )


def test_the_gradient_equals_central_differences(objective, theta):
    direction = torch.randn(len(theta), dtype=torch.float64)
    h = 1e-6
    slope = (
        objective.evaluate(theta + h * direction).loss
        - objective.evaluate(theta - h * direction).loss
    ) / (2 * h)
    assert slope == pytest.approx(
        float(objective.evaluate(theta).evaluate_gradient() @ direction), rel=1e-6
    )


def test_a_gradient_asked_for_late_is_that_of_its_own_point(objective, theta):
    early = objective.evaluate(theta)
    objective.evaluate(theta + 0.1).evaluate_gradient()
    assert torch.equal(early.evaluate_gradient(), objective.evaluate(theta).evaluate_gradient())


@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_restricted_gradients_are_the_blocks_of_the_full_one(problem, objective, theta, blocks):
    full = objective.evaluate(theta)
    gradient = full.evaluate_gradient()
    for block in cut_layers(problem.layers, blocks).blocks:
        evaluation = objective.restrict(block, theta).evaluate(block.restrict(theta))
        assert evaluation.loss == pytest.approx(full.loss, rel=1e-13)
        torch.testing.assert_close(
            evaluation.evaluate_gradient(), block.restrict(gradient), rtol=1e-11, atol=1e-13
        )


def test_a_block_leaves_the_frozen_parameters_and_the_callers_theta_alone(
    problem, objective, theta
):
    before = theta.clone()
    block = cut_layers(problem.layers, 5).blocks[2]
    local = objective.restrict(block, theta)
    shifted = block.restrict(theta) + 0.3
    loss = local.evaluate(shifted).loss
    assert torch.equal(theta, before)
    block.restrict(theta).copy_(shifted)
    assert loss == pytest.approx(objective.evaluate(theta).loss, rel=1e-13)


def test_work_is_counted_in_evaluations_of_the_full_network(objective, theta):
    counts = objective.counts
    evaluation = objective.evaluate(theta)
    assert (counts.loss_evaluations, counts.gradient_evaluations) == (1, 0)
    evaluation.evaluate_gradient()
    evaluation.evaluate_gradient()
    assert (counts.loss_evaluations, counts.gradient_evaluations) == (1, 1)
    objective.evaluate_with_gradient(theta).evaluate_gradient()
    assert (counts.loss_evaluations, counts.gradient_evaluations) == (1, 2)


def test_a_loss_has_the_same_bits_with_and_without_its_gradient(objective, theta):
    assert objective.evaluate(theta).loss == objective.evaluate_with_gradient(theta).loss


def test_a_block_counts_the_layers_it_sweeps(problem, objective, theta):
    costs = [layer.cost for layer in problem.layers]
    block = cut_layers(problem.layers, 5).blocks[3]
    local = objective.restrict(block, theta)
    assert objective.counts.loss_evaluations == pytest.approx(sum(costs[:3]) / sum(costs))
    objective.counts.loss_work = 0
    local.evaluate_with_gradient(block.restrict(theta))
    swept = costs[3] + costs[4] + costs[4] + costs[3]  # forward, adjoint of layer 4, gradient of 3
    assert objective.counts.gradient_work == swept
    assert objective.counts.loss_work == 0


def test_the_loss_does_not_depend_on_how_ranks_cut_the_chunks(problem, objective, theta):
    """Chunk sums have the same bits whichever rank's share they are in."""
    expected = problem.share(CHUNKS, 0, 1, 1).sum_losses_and_gradients(theta)
    for ranks in (2, 3, 4):
        shares = [problem.share(CHUNKS, rank, ranks, 1) for rank in range(ranks)]
        losses = torch.cat([share.sum_losses(theta) for share in shares])
        leaves = torch.cat([share.sum_losses_and_gradients(theta) for share in shares])
        assert torch.equal(losses, expected[:, 0])
        assert torch.equal(leaves, expected)
