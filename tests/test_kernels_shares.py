"""What torch computes of a share of the chunks has the bits that it has among all chunks."""

from itertools import pairwise

import pytest
import torch

from hpctrain.kernels import TorchJets
from hpctrain.kernels.jets import JetShape
from hpctrain.kernels.residual import TorchResidual
from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.tree import share_chunks

NETWORK = DenseNetwork(2, 4, 10, gated=True)
SHAPE = JetShape.make_closed(2, [(0, 0), (1, 1)])
CHUNKS, POINTS = 16, 31 * 16 + 5  # of 31 and 32 points


def three_residuals(u, unknowns):
    """With the products of all components, so that sums over them have several terms."""
    (a,) = unknowns
    return [u[1][0] - a * u[3][0], u[0][0] * u[2][0], u[4][0] + a * u[0][0] ** 2]


def make_loss(points, bounds, group):
    samples = 32 * -(-(bounds[-1] // group) // 32)
    residual = three_residuals if group == 1 else at_two_points
    return TorchResidual(TorchJets(NETWORK, SHAPE, points, bounds), residual, 1, group, samples)


def at_two_points(u, unknowns):
    return [each[0] - each[1] for each in three_residuals([[v] for v in u[:, 0]], unknowns)]


def evaluate(loss, theta, v):
    """By samples or by chunks, all that a loss computes."""
    r = loss.evaluate_residuals(theta)
    last = NETWORK.depth - 1
    return {
        "residuals": r,
        "gradients": loss.sum_losses_and_gradients(theta, 0, last, None),
        "losses": loss.sum_losses(theta, 0, None),
        "tangents": loss.multiply_jacobian(theta, v),
        "pulled back": loss.pull_back(theta, r),
        "rows": loss.evaluate_jacobian(theta, 0, len(loss.jets.bounds) - 1),
    }


@pytest.mark.parametrize("group", [1, 2], ids=["points", "pairs of points"])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_shares_have_the_bits_of_the_whole(ranks, group):
    torch.manual_seed(0)
    count = POINTS * group
    points = torch.rand(2, count, dtype=torch.float64)
    bounds = [group * (POINTS * c // CHUNKS) for c in range(CHUNKS + 1)]
    theta = 0.3 * torch.randn(NETWORK.parameters + 1, dtype=torch.float64)
    v = torch.randn_like(theta)
    whole = evaluate(make_loss(points, bounds, group), theta, v)
    parts = []
    for first, last in share_chunks(CHUNKS, ranks):
        own = bounds[first : last + 1]
        part = make_loss(points[:, own[0] : own[-1]], [b - own[0] for b in own], group)
        parts.append(evaluate(part, theta, v))
    for name, values in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), values), name


def test_sums_of_chunks_are_those_of_their_points():
    """Of chunks that are empty, shorter and longer than a tile."""
    torch.manual_seed(0)
    bounds = [0, 1, 1, 40, 73, 150]
    points = torch.rand(2, bounds[-1], dtype=torch.float64)
    theta = 0.3 * torch.randn(NETWORK.parameters, dtype=torch.float64)
    jets = TorchJets(NETWORK, SHAPE, points, bounds)
    adjoint = torch.randn_like(jets.forward(theta, keep=True))
    gradients = jets.reverse(theta, adjoint)
    single = jets.separate()
    single.forward(theta, keep=True)
    rows = single.reverse(theta, adjoint)
    expected = torch.stack([rows[first:last].sum(0) for first, last in pairwise(bounds)])
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-13)
