"""Threads: cores are divided among the ranks that may run on them."""

import warnings

import pytest
import torch

from hpctrain.parallel import Communicator, set_threads
from hpctrain.parallel.threads import compute_core_share, find_visible_cores


@pytest.fixture(autouse=True)
def restored_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_rank_alone_takes_all_cores_it_may_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set_threads(Communicator()) == len(find_visible_cores()) == torch.get_num_threads()


def test_requested_number_is_set():
    assert set_threads(Communicator(), 1) == 1 == torch.get_num_threads()


def test_more_threads_than_cores_give_a_warning_that_says_what_to_set():
    with pytest.warns(UserWarning, match="2 threads more than it has cores.*parallel.threads"):
        assert set_threads(Communicator(), len(find_visible_cores()) + 2) == torch.get_num_threads()


def test_less_than_one_thread_is_an_error():
    with pytest.raises(ValueError, match="at least one thread, not 0"):
        set_threads(Communicator(), 0)


@pytest.mark.parametrize(
    "on_node, shares",
    [
        ([{0, 1, 2, 3}] * 2, [2, 2]),  # unbound
        ([{0, 1}, {2, 3}], [2, 2]),  # bound, each to its own
        ([{0, 1, 2}, {2, 3, 4}], [2.5, 2.5]),  # overlapping
        ([{0}] * 4, [0.25] * 4),  # crowded
    ],
)
def test_cores_are_divided_among_the_ranks_that_may_use_them(on_node, shares):
    assert [compute_core_share(mine, on_node) for mine in on_node] == shares
