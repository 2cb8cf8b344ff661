"""Block maps: every block has ranks, every rank has blocks, the work is balanced."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpctrain.parallel import Communicator, assign_blocks, make_block_communicator
from hpctrain.parallel.grid import share_blocks

weight_lists = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=12)


@given(weight_lists, st.integers(1, 24))
def test_every_block_and_every_rank_is_covered(weights, ranks):
    block_map = assign_blocks(weights, ranks)
    assert len(block_map.groups) == len(weights) and len(block_map.blocks) == ranks
    assert all(block_map.groups) and all(block_map.blocks)
    assert {(b, r) for b, group in enumerate(block_map.groups) for r in group} == {
        (b, r) for r, blocks in enumerate(block_map.blocks) for b in blocks
    }


@given(weight_lists, st.integers(1, 24))
def test_blocks_have_one_rank_or_ranks_have_one_block(weights, ranks):
    block_map = assign_blocks(weights, ranks)
    if ranks <= len(weights):
        assert all(len(group) == 1 for group in block_map.groups)
    else:
        assert all(len(blocks) == 1 for blocks in block_map.blocks)


@given(weight_lists, st.integers(1, 12))
def test_no_rank_has_more_than_the_mean_and_one_block(weights, ranks):
    ranks = min(ranks, len(weights))
    loads = [sum(weights[b] for b in blocks) for blocks in assign_blocks(weights, ranks).blocks]
    assert max(loads) <= (sum(weights) / ranks + max(weights)) * (1 + 1e-12)


def test_equal_blocks_are_shared_evenly():
    counts = [len(blocks) for blocks in assign_blocks([1.0] * 8, 3).blocks]
    assert sorted(counts) == [2, 3, 3]


def test_heavy_blocks_have_large_groups():
    sizes = [len(group) for group in assign_blocks([4.0, 2.0, 1.0, 1.0], 16).groups]
    assert sizes == [8, 4, 2, 2]


def test_groups_are_contiguous_ranks():
    assert assign_blocks([1.0, 2.0], 3).groups == ((0,), (1, 2))


def test_shared_blocks_are_all_on_all_ranks():
    shared = share_blocks(2, 3)
    assert shared.groups == ((0, 1, 2),) * 2 and shared.blocks == ((0, 1),) * 3


@pytest.mark.parametrize("weights", [[], [1.0, -1.0], [float("nan")]])
def test_impossible_weights_are_errors(weights):
    with pytest.raises(ValueError, match="finite and not negative"):
        assign_blocks(weights, 2)


def test_no_ranks_is_an_error():
    with pytest.raises(ValueError, match="at least one rank, not 0"):
        assign_blocks([1.0], 0)


def test_block_communicator_of_one_rank_shares_its_timer():
    alone = Communicator()
    block = make_block_communicator(alone, assign_blocks([1.0, 2.0], 1))
    assert block.size == 1
    assert block.timer is alone.timer and block.traffic is alone.traffic
