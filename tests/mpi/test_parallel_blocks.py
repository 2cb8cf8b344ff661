"""Blocks and threads on real ranks."""

import warnings

import pytest
import torch

from hpctrain.parallel import assign_blocks, make_block_communicator, set_threads
from hpctrain.parallel.threads import find_visible_cores


@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_block_communicator_joins_exactly_the_ranks_of_the_block(comm, assert_everywhere, blocks):
    block_map = assign_blocks([1.0 + block for block in range(blocks)], comm.size)
    group = make_block_communicator(comm, block_map)
    members = tuple(group.allgather(comm.rank))
    mine = block_map.blocks[comm.rank]
    assert_everywhere(all(block_map.groups[block] == members for block in mine), "the group")
    group.free()


def test_whole_blocks_need_no_communication(comm, assert_everywhere):
    messages = comm.traffic.messages
    group = make_block_communicator(comm, assign_blocks([1.0] * comm.size, comm.size))
    group.barrier()
    assert_everywhere(group.size == 1 and comm.traffic.messages == messages, "a rank alone")


def test_threads_of_all_ranks_fit_the_cores(comm, assert_everywhere):
    before = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = set_threads(comm)
    assert_everywhere(threads == torch.get_num_threads(), "torch's threads")
    total = sum(comm.allgather(threads))
    assert_everywhere(total <= max(comm.size, len(find_visible_cores())), "the sum over ranks")
    torch.set_num_threads(before)


def test_too_many_threads_give_one_warning_on_the_root(comm, assert_everywhere):
    before = torch.get_num_threads()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        set_threads(comm, len(find_visible_cores()) + 1)
    assert_everywhere(len(caught) == (1 if comm.is_root else 0), "the number of warnings")
    torch.set_num_threads(before)
