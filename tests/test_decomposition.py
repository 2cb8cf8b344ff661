"""Blocks of layers: complete, disjoint, balanced."""

import pytest
import torch

from hpctrain.decomposition import LayerRange, by_layers

LAYERS = [LayerRange(10 * k, 10 * (k + 1), 1) for k in range(8)]


@pytest.mark.parametrize("blocks", range(1, 9))
def test_blocks_hold_every_layer_once_and_differ_by_one_at_most(blocks):
    found = by_layers(LAYERS, blocks).blocks
    layers = [layer for block in found for layer in range(block.first, block.last + 1)]
    assert layers == list(range(8))
    counts = [block.last - block.first + 1 for block in found]
    assert max(counts) - min(counts) <= 1
    assert [block.start for block in found[1:]] == [block.stop for block in found[:-1]]


@pytest.mark.parametrize("blocks", [0, 9])
def test_more_blocks_than_layers_are_refused(blocks):
    with pytest.raises(ValueError, match="1 to 8"):
        by_layers(LAYERS, blocks)


@pytest.mark.parametrize("blocks", [1, 3, 8])
def test_extension_is_the_transpose_of_restriction_and_their_sum_is_the_identity(blocks):
    decomposition = by_layers(LAYERS, blocks)
    theta = torch.randn(80, dtype=torch.float64)
    restricted = [block.restrict(theta) for block in decomposition.blocks]
    assert torch.equal(decomposition.extend_add(restricted), theta)
    local = [torch.randn(block.size, dtype=torch.float64) for block in decomposition.blocks]
    left = sum(float(x @ r) for x, r in zip(local, restricted, strict=True))
    assert left == pytest.approx(float(decomposition.extend_add(local) @ theta))
