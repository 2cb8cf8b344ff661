"""Blocks of layers: complete, balanced, disjoint or overlapping as asked for."""

import pytest
import torch

from hpctrain.decomposition.blocks import LayerRange, count_tensors, cut_layers, cut_tensors
from hpctrain.job.settings import JobError, parse_job

LAYERS = [LayerRange(10 * k, 10 * (k + 1), 1) for k in range(8)]


@pytest.mark.parametrize("blocks", range(1, 9))
def test_blocks_hold_every_layer_once_and_differ_by_one_at_most(blocks):
    found = cut_layers(LAYERS, blocks).blocks
    layers = [layer for block in found for layer in range(block.first, block.last + 1)]
    assert layers == list(range(8))
    counts = [block.last - block.first + 1 for block in found]
    assert max(counts) - min(counts) <= 1
    assert [block.start for block in found[1:]] == [block.stop for block in found[:-1]]


@pytest.mark.parametrize("blocks", [0, 9])
def test_more_blocks_than_layers_are_refused(blocks):
    with pytest.raises(ValueError, match="1 to 8"):
        cut_layers(LAYERS, blocks)


@pytest.mark.parametrize("blocks", [1, 3, 8])
def test_extension_is_the_transpose_of_restriction_and_their_sum_is_the_identity(blocks):
    decomposition = cut_layers(LAYERS, blocks)
    theta = torch.randn(80, dtype=torch.float64)
    restricted = [block.restrict(theta) for block in decomposition.blocks]
    assert torch.equal(decomposition.extend_add(restricted), theta)
    local = [torch.randn(block.size, dtype=torch.float64) for block in decomposition.blocks]
    left = sum(float(x @ r) for x, r in zip(local, restricted, strict=True))
    assert left == pytest.approx(float(decomposition.extend_add(local) @ theta))


@pytest.mark.parametrize("overlap", [1, 2, 7])
@pytest.mark.parametrize("blocks", [1, 3, 8])
def test_an_overlapping_block_reaches_that_many_layers_into_its_neighbours(blocks, overlap):
    cores = cut_layers(LAYERS, blocks).blocks
    for core, grown in zip(cores, cut_layers(LAYERS, blocks, overlap).blocks, strict=True):
        assert grown.first == max(core.first - overlap, 0)
        assert grown.last == min(core.last + overlap, 7)
        assert (grown.start, grown.stop) == (10 * grown.first, 10 * grown.last + 10)


@pytest.mark.parametrize("overlap", [0, 1, 3])
@pytest.mark.parametrize("blocks", [1, 3, 8])
def test_division_by_owners_is_a_partition_of_unity(blocks, overlap):
    """Blocks that all propose the same change make that change."""
    decomposition = cut_layers(LAYERS, blocks, overlap)
    change = torch.randn(80, dtype=torch.float64)
    proposed = [block.restrict(change) for block in decomposition.blocks]
    torch.testing.assert_close(decomposition.extend_add(proposed), change, rtol=1e-15, atol=0)


def test_every_parameter_is_divided_by_the_number_of_its_owners():
    decomposition = cut_layers(LAYERS, 4, overlap=1)
    assert decomposition.owners.reshape(8, 10)[:, 0].tolist() == [1, 2, 2, 2, 2, 2, 2, 1]
    ones = [torch.ones(block.size, dtype=torch.float64) for block in decomposition.blocks]
    only_first = [ones[0], *(0 * each for each in ones[1:])]
    expected = torch.tensor([1.0, 0.5, 0.5] + 5 * [0.0], dtype=torch.float64).repeat_interleave(10)
    assert torch.equal(decomposition.extend_add(only_first), expected)


@pytest.mark.parametrize("overlap", [-1, 8])
def test_an_overlap_of_all_layers_is_refused(overlap):
    with pytest.raises(ValueError, match="0 to 7 layers"):
        cut_layers(LAYERS, 4, overlap)


def test_the_coarse_parameters_are_the_first_layers_of_the_blocks_without_overlap():
    coarse = cut_layers(LAYERS, 3, overlap=1).coarse
    assert [run.first for run in coarse.runs] == [0, 3, 6]
    assert (coarse.first, coarse.last, coarse.size) == (0, 6, 30)
    theta = torch.arange(80.0)
    picked = coarse.restrict(theta)
    assert picked.tolist() == [*range(10), *range(30, 40), *range(60, 70)]
    coarse.replace(theta, -picked)
    assert torch.equal(coarse.restrict(theta), -picked)
    assert torch.equal(theta[10:30], torch.arange(10.0, 30.0))


MATRICES = [LayerRange(10 * k, 10 * (k + 1), 1, tensors=(8, 2)) for k in range(3)]


@pytest.mark.parametrize("blocks", range(1, 7))
def test_blocks_of_tensors_hold_every_parameter_once_and_cut_none(blocks):
    found = cut_tensors(MATRICES, blocks).blocks
    assert [block.start for block in found] == [0, *(block.stop for block in found[:-1])]
    assert found[-1].stop == 30 and {block.stop % 10 for block in found} <= {0, 8}
    for block in found:
        assert (block.first, block.last) == (block.start // 10, (block.stop - 1) // 10)


def test_as_many_blocks_as_tensors_are_the_tensors_and_more_are_refused():
    assert count_tensors(MATRICES) == 6 and count_tensors(LAYERS) == 8
    assert [block.size for block in cut_tensors(MATRICES, 6).blocks] == [8, 2] * 3
    with pytest.raises(ValueError, match="1 to 6, one a tensor"):
        cut_tensors(MATRICES, 7)


JOB = """
[problem]
name = "burgers"
[network]
depth = 4
width = 8
[solver]
name = "{solver}"
blocks = 4
"""


@pytest.mark.parametrize(
    "solver, override, message",
    [
        ("aspqn", "overlap=4", "solver.overlap = 4 is not allowed: at most 3, below the number of"),
        ("mspqn", "overlap=-1", "solver.overlap = -1 is not allowed: an integer, at least 0"),
        ("mspqn", "synchronisation=subspace", 'synchronisation = "subspace" is for aspqn'),
    ],
)
def test_a_job_whose_blocks_make_no_sense_is_refused_in_one_line(solver, override, message):
    with pytest.raises(JobError) as caught:
        parse_job(JOB.format(solver=solver), "a.toml", [f"solver.{override}"])
    assert message in str(caught.value) and "\n" not in str(caught.value)
