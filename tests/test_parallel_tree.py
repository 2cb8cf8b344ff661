"""Tree sums: the same bits for any split of the chunks over ranks."""

import pytest
import torch

from hpctrain.parallel.tree import Node, find_aligned_nodes, list_joins, reduce_leaves, share_chunks

CHUNKS = 64


def random_leaves(dtype=torch.float64, columns=7):
    """Chunk sums of widely different size, so that another order of summation shows."""
    generator = torch.Generator().manual_seed(0)
    leaves = torch.randn(CHUNKS, columns, dtype=dtype, generator=generator)
    return leaves * 10.0 ** torch.randint(-6, 6, (CHUNKS, columns), generator=generator)


def sum_over_ranks(leaves, ranks):
    """What `ranks` ranks compute together: their own subtrees, then the joins between ranks."""
    sums = {}
    for first, last in share_chunks(len(leaves), ranks):
        own = reduce_leaves(leaves[first:last], first)
        sums.update(zip(find_aligned_nodes(first, last), own, strict=True))
    for parent, _, _ in list_joins(len(leaves), ranks):
        left, right = parent.children
        sums[parent] = sums[left] + sums[right]
    return sums[Node(len(leaves).bit_length() - 1, 0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ranks", [*range(1, 9), 13, 63, 64])
def test_sum_has_the_same_bits_for_any_number_of_ranks(ranks, dtype):
    leaves = random_leaves(dtype)
    assert torch.equal(sum_over_ranks(leaves, ranks), sum_over_ranks(leaves, 1))


@pytest.mark.parametrize("ranks", [2, 4, 8, 16])
def test_recursive_doubling_has_the_bits_of_the_tree_on_every_rank(ranks):
    leaves = random_leaves()
    totals = [reduce_leaves(leaves[a:b], a)[0] for a, b in share_chunks(CHUNKS, ranks)]
    for level in range(ranks.bit_length() - 1):
        totals = [totals[rank] + totals[rank ^ (1 << level)] for rank in range(ranks)]
    assert all(torch.equal(total, sum_over_ranks(leaves, 1)) for total in totals)


def test_sum_is_that_of_torch_up_to_rounding():
    leaves = random_leaves()
    scale = leaves.abs().sum(0)
    assert ((sum_over_ranks(leaves, 1) - leaves.sum(0)).abs() <= 1e-15 * CHUNKS * scale).all()


def test_sum_follows_the_tree_and_not_another_order():
    """(1 + tiny) + (tiny + tiny) rounds differently from left to right."""
    tiny = 2.0**-53
    leaves = torch.tensor([[1.0], [tiny], [tiny], [tiny]], dtype=torch.float64)
    assert sum_over_ranks(leaves, 1).item() == (1.0 + tiny) + (tiny + tiny) != 1.0


def test_threads_do_not_change_the_bits():
    leaves = random_leaves(columns=100_000)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = reduce_leaves(leaves, 0)
        torch.set_num_threads(2)
        assert torch.equal(reduce_leaves(leaves, 0), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("ranks", range(1, 9))
def test_leaves_of_the_caller_stay_as_they_are(ranks):
    leaves = random_leaves()
    before = leaves.clone()
    reduce_leaves(leaves, 0)[:] = 0
    sum_over_ranks(leaves, ranks)
    assert torch.equal(leaves, before)


@pytest.mark.parametrize("ranks", range(1, CHUNKS + 1))
def test_shares_cover_all_chunks_evenly(ranks):
    found = share_chunks(CHUNKS, ranks)
    assert [chunk for share in found for chunk in range(*share)] == list(range(CHUNKS))
    sizes = [last - first for first, last in found]
    assert max(sizes) - min(sizes) <= 1
    if ranks & (ranks - 1) == 0:
        assert all(len(find_aligned_nodes(*share)) == 1 for share in found)


def test_aligned_nodes_are_the_largest_subtrees_from_left_to_right():
    assert find_aligned_nodes(0, 64) == (Node(6, 0),)
    assert find_aligned_nodes(3, 10) == (Node(0, 3), Node(2, 1), Node(1, 4))
    assert find_aligned_nodes(5, 5) == ()


@pytest.mark.parametrize("ranks", range(1, 9))
def test_joins_are_the_nodes_that_no_rank_holds_whole(ranks):
    nodes = [join.parent for join in list_joins(CHUNKS, ranks)]
    owned = [set(range(*share)) for share in share_chunks(CHUNKS, ranks)]
    across = [
        Node(level, index)
        for level in range(1, 7)
        for index in range(CHUNKS >> level)
        if not any(set(range(index << level, (index + 1) << level)) <= its for its in owned)
    ]
    assert nodes == across


@pytest.mark.parametrize(
    "chunks, ranks, message",
    [(4, 5, "5 ranks cannot share 4"), (4, 0, "0 ranks"), (48, 2, "power of two, not 48")],
)
def test_impossible_shares_are_errors(chunks, ranks, message):
    with pytest.raises(ValueError, match=message):
        share_chunks(chunks, ranks)
