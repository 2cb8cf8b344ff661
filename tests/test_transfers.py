"""Transfers in depth: R = Iᵀ, P I = id, and what each rule does to the blocks."""

import math

import pytest
import torch

from hpctrain.linalg.vectors import dot, norm
from hpctrain.networks.transfers import RULES, DepthTransfer, Run

DEPTHS = {"constant": (2, 8), "linear": (3, 7)}
CASES = [(rule, depth) for rule in RULES for depth in DEPTHS[rule]]


def runs_of(depth):
    """A shared piece, a stage, a shared piece, a stage with larger blocks, a shared piece."""
    return [Run(5), Run(3, depth), Run(2), Run(4, depth), Run(6)]


def sizes_of(rule, depth):
    coarse = RULES[rule].find_coarse_depth(depth)
    return [sum(run.numbers for run in runs_of(each)) for each in (depth, coarse)]


def draw(size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("rule", "depth"), CASES)
def test_restriction_is_the_adjoint_of_prolongation(rule, depth):
    transfer, (fine, coarse) = DepthTransfer(runs_of(depth), rule), sizes_of(rule, depth)
    s, g = draw(coarse), draw(fine, 1)
    assert dot(transfer.restrict(g), s) == pytest.approx(dot(g, transfer.prolong(s)), rel=1e-13)


@pytest.mark.parametrize(("rule", "depth"), CASES)
def test_projection_is_a_left_inverse_of_prolongation(rule, depth):
    transfer, s = DepthTransfer(runs_of(depth), rule), draw(sizes_of(rule, depth)[1])
    assert torch.equal(transfer.project(transfer.prolong(s)), s)


@pytest.mark.parametrize(("rule", "depth"), CASES)
def test_a_lifted_gradient_is_the_adjoint_of_the_projection(rule, depth):
    transfer, (fine, coarse) = DepthTransfer(runs_of(depth), rule), sizes_of(rule, depth)
    theta, g = draw(fine), draw(coarse, 1)
    assert dot(transfer.lift(g), theta) == pytest.approx(dot(g, transfer.project(theta)), rel=1e-13)
    torch.testing.assert_close(transfer.restrict(transfer.lift(g)), g)


@pytest.mark.parametrize(("rule", "depth"), CASES)
def test_no_correction_grows_by_more_than_the_stretch(rule, depth):
    transfer, (_, coarse) = DepthTransfer(runs_of(depth), rule), sizes_of(rule, depth)
    matrix = torch.stack([transfer.prolong(e) for e in torch.eye(coarse, dtype=torch.float64)])
    largest = float(torch.linalg.matrix_norm(matrix, ord=2))
    assert largest <= transfer.stretch * (1 + 1e-12)
    assert largest > 1.1
    s = draw(coarse)
    assert norm(transfer.prolong(s)) <= transfer.stretch * norm(s)


def test_sampling_keeps_blocks_as_they_are():
    theta = torch.tensor([9.0, 1.0, 2.0, 3.0, 6.0])
    sampled = DepthTransfer([Run(1), Run(1, 4)], "constant").sample(theta)
    assert sampled[0] == 9 and set(sampled[1:].tolist()) in ({1, 3}, {2, 6})


def test_constant_copies_blocks_and_projects_to_their_mean():
    transfer = DepthTransfer([Run(1), Run(2, 4)], "constant")
    s = torch.tensor([9.0, 1.0, 2.0, 3.0, 4.0])
    assert transfer.prolong(s).tolist() == [9, 1, 2, 1, 2, 3, 4, 3, 4]
    theta = torch.tensor([9.0, 1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 1.0, 1.0])
    assert transfer.project(theta).tolist() == [9, 2, 4, 0.5, 0.5]
    assert transfer.stretch == math.sqrt(2)


def test_linear_puts_means_between_blocks_and_keeps_every_other_one():
    transfer = DepthTransfer([Run(1, 3), Run(1)], "linear")
    assert transfer.prolong(torch.tensor([1.0, 3.0, 7.0])).tolist() == [1, 2, 3, 7]
    assert transfer.project(torch.tensor([1.0, 5.0, 3.0, 7.0])).tolist() == [1, 3, 7]


def test_depths_without_a_coarser_grid():
    constant, linear = RULES["constant"], RULES["linear"]
    assert [constant.find_coarse_depth(depth) for depth in (1, 2, 3, 12)] == [None, 1, None, 6]
    assert [linear.find_coarse_depth(depth) for depth in (1, 2, 3, 9)] == [None, None, 2, 5]
    with pytest.raises(ValueError, match="3 blocks have no coarser grid"):
        DepthTransfer([Run(1, 3)], "constant")
