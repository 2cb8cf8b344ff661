"""Residual classifiers: blocks as time steps of one equation, and their coarsening in depth."""

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from hpctrain.networks.faults import NetworkError
from hpctrain.networks.residual import (
    EulerBlock,
    ResidualNetwork,
    make_convolutional_resnet,
    make_dense_resnet,
)
from hpctrain.networks.transfers import RIDGE, Run, fit_second_half_step

SHAPE, CLASSES = (1, 6, 6), 10


def dense(blocks, width=5, time=1.0):
    make = partial(make_dense_resnet, 36, width, CLASSES, time, nn.Tanh)
    return ResidualNetwork("dense", make, SHAPE, blocks)


def convolutional(blocks, filters=(2, 3)):
    make = partial(make_convolutional_resnet, SHAPE, list(filters), CLASSES, 1.0, nn.Tanh, 1)
    return ResidualNetwork("conv", make, SHAPE, blocks)


def outputs(network, theta, x):
    replica = network.replica(torch.float64)
    replica.load(theta, 0)
    with torch.no_grad():
        return replica.run(x, 0)


def test_a_dense_network_is_eulers_method_to_the_final_time():
    network = dense(4, time=2.0)
    theta, x = (
        network.make_initial_parameters(0).double(),
        torch.rand(3, *SHAPE, dtype=torch.float64),
    )
    pieces = theta.split([36 * 5, 5, *[25, 5] * 4, 5 * CLASSES, CLASSES])
    maps = [(W.view(len(b), -1), b) for W, b in zip(pieces[::2], pieces[1::2], strict=True)]
    y = torch.tanh(nn.functional.linear(x.flatten(1), *maps[0]))
    for W, b in maps[1:-1]:
        y = y + 2.0 / 4 * torch.tanh(y @ W.T + b)
    torch.testing.assert_close(outputs(network, theta, x), nn.functional.linear(y, *maps[-1]))


def test_runs_are_the_stages_and_what_lies_between_them():
    assert dense(4).runs == [Run(36 * 5 + 5), Run(30, 4), Run(5 * CLASSES + CLASSES)]
    first, strided, last = 9 * 2 + 2, 9 * 2 * 3 + 3, 3 * CLASSES + CLASSES
    assert convolutional(2).runs == [
        Run(first), Run(9 * 4 + 2, 2), Run(strided), Run(9 * 9 + 3, 2), Run(last)
    ]  # fmt: skip


@pytest.mark.parametrize("make", [dense, convolutional])
def test_networks_are_chains_with_a_layer_for_each_block(make):
    network = make(4)
    assert network.is_chain
    assert sum(run.numbers for run in network.runs) == network.parameters
    assert len(network.layers) == sum(run.depth or 1 for run in network.runs)


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize(("rule", "depths"), [("constant", (8, 4, 2)), ("linear", (9, 5, 3))])
def test_depth_is_halved_and_the_time_is_kept(make, rule, depths):
    network = make(depths[0])
    for depth in depths[1:]:
        finer, (network, transfer) = network, network.coarsen(rule)
        assert network.blocks == depth and network.name.endswith(f"{depth} blocks")
        theta = network.make_initial_parameters(0)
        assert transfer.prolong(theta).shape == (finer.parameters,)
        assert transfer.project(finer.make_initial_parameters(0)).shape == (network.parameters,)


def test_a_prolonged_network_tends_to_the_coarse_one_as_steps_become_small():
    """Both solve the same equation: their difference falls with dt, as Euler's error does."""
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    differences, network = [], dense(2)
    theta = 3 * network.make_initial_parameters(0).double()
    for depth in (4, 8, 16, 32):
        finer = dense(depth)
        _, transfer = finer.coarsen("constant")
        prolonged = transfer.prolong(theta)
        change = outputs(finer, prolonged, x) - outputs(network, theta, x)
        differences.append(float(change.norm()))
        network, theta = finer, prolonged
    ratios = [after / before for before, after in pairwise(differences)]
    assert all(0.4 < ratio < 0.6 for ratio in ratios[1:])


def test_a_depth_that_cannot_be_halved_is_one_clear_line():
    with pytest.raises(NetworkError, match=r"^dense, 5 blocks: no coarser level by a constant"):
        dense(5).coarsen("constant")
    with pytest.raises(NetworkError, match=r"which takes an odd number, 2 K - 1$"):
        dense(4).coarsen("linear")


BLOCKS = [
    EulerBlock(nn.Linear(5, 5), nn.Tanh(), 0.5),
    EulerBlock(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh(), 0.5),
]
CASES = [(BLOCKS[0], (40, 5)), (BLOCKS[1], (4, 3, 6, 6))]


def second_of(block, system):
    """The map of the second half step."""
    fitted, change = copy.deepcopy(block.map), fit_second_half_step(system)
    W, b = change.split([fitted.weight.numel(), fitted.bias.numel()])
    with torch.no_grad():
        fitted.weight += W.view_as(fitted.weight)
        fitted.bias += b
    return fitted


def drawn(block, shape, seed=0):
    """The block with other weights, double, and what it is fed with."""
    random = torch.Generator().manual_seed(seed)
    block = copy.deepcopy(block).double()
    with torch.no_grad():
        for each in block.parameters():
            each.copy_(torch.randn(each.shape, generator=random, dtype=torch.float64) / 4)
    return block, torch.randn(shape, generator=random, dtype=torch.float64)


@pytest.mark.parametrize(("block", "shape"), CASES)
def test_the_second_half_step_is_the_least_squares_fit(block, shape):
    """∇(½ ‖W'y₁ + b' - z‖² + ½ ρ ‖(W', b') - (W, b)‖²) = 0 there, and not at (W, b)."""
    block, y = drawn(block, shape)
    with torch.no_grad():
        z = block.map(y)
        y_1 = y + 0.25 * torch.tanh(z)
        system = block.make_half_step_system(y[:1]) + block.make_half_step_system(y[1:])
        G = system[:, : len(system)]
    ridge = RIDGE * float(G.diagonal().mean())

    def gradient(map):
        change = zip(map.parameters(), block.map.parameters(), strict=True)
        misfit = 0.5 * (map(y_1) - z).square().sum()
        held = sum((new - old.detach()).square().sum() for new, old in change)
        found = torch.autograd.grad(misfit + 0.5 * ridge * held, list(map.parameters()))
        return torch.cat([each.flatten() for each in found]).norm()

    assert gradient(second_of(block, system)) < 1e-10 * gradient(block.map)


@pytest.mark.parametrize(("block", "shape", "most"), [(*CASES[0], 0.25), (*CASES[1], 0.75)])
def test_two_half_steps_come_near_the_block_where_copies_miss_it(block, shape, most):
    """Less near with a convolution of noise, the inverse of whose first half step is wider."""
    block, y = drawn(block, shape)

    def missed(second):
        y_1 = y + 0.25 * torch.tanh(block.map(y))
        return (y_1 + 0.25 * torch.tanh(second(y_1)) - block(y)).norm()

    with torch.no_grad():
        fitted = second_of(block, block.make_half_step_system(y))
        assert missed(fitted) < most * missed(block.map)


def test_half_steps_of_a_linear_equation_are_exact_without_a_ridge(monkeypatch):
    monkeypatch.setattr("hpctrain.networks.transfers.RIDGE", 0.0)
    block, y = drawn(EulerBlock(nn.Linear(5, 5), nn.Identity(), 0.5), (40, 5))
    with torch.no_grad():
        second = second_of(block, block.make_half_step_system(y))
        y_1 = y + 0.25 * block.map(y)
        torch.testing.assert_close(y_1 + 0.25 * second(y_1), block(y))
        assert not torch.allclose(y_1 + 0.25 * block.map(y_1), block(y), rtol=1e-2)
