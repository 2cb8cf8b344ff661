"""The communicator on real ranks: equal bits, equal errors, everything counted and timed.

All tests run over every transport that needs no GPU.
"""

import numpy as np
import pytest
import torch

from hpctrain.errors import InputError, UserCodeError
from hpctrain.parallel import RootError, tree_messages
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.owners import merge_at_owners, share_tensors
from hpctrain.parallel.phases import PHASES
from hpctrain.parallel.transports import HostMPI, Staged
from hpctrain.parallel.transports.torch_distributed import TorchDistributed
from hpctrain.parallel.tree import (
    Node,
    find_aligned_nodes,
    merge_nodes,
    reduce_leaves,
    share_chunks,
)

CHUNKS = 64
TRANSPORTS = {
    "mpi": HostMPI,
    "mpi, staged": lambda mpi: Staged(HostMPI(mpi)),
    "gloo": lambda mpi: TorchDistributed.start(mpi, "gloo"),
}


@pytest.fixture(params=TRANSPORTS, scope="module")
def comm(comm, request):
    """All ranks of the test run, over one transport after the other."""
    ranks = comm.use_transport(TRANSPORTS[request.param])
    yield ranks
    ranks.free()


class UnpicklableError(Exception):
    """Takes two arguments, but is pickled with the one message they make."""

    def __init__(self, name, value):
        super().__init__(f"{name} = {value}")


def random_leaves(dtype, columns):
    generator = torch.Generator().manual_seed(columns)
    leaves = torch.randn(CHUNKS, columns, dtype=dtype, generator=generator)
    return leaves * 10.0 ** torch.randint(-6, 6, (CHUNKS, columns), generator=generator)


def summed(comm, leaves):
    first, last = share_chunks(CHUNKS, comm.size)[comm.rank]
    return comm.sum_by_tree(reduce_leaves(leaves[first:last], first), CHUNKS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by_parts", [False, True])
def test_tree_sum_has_the_bits_of_one_rank(comm, assert_everywhere, monkeypatch, by_parts, dtype):
    monkeypatch.setattr(tree_messages, "is_long", lambda *_: by_parts)
    for columns in (1000, 17) if by_parts else (1000, 1, 17):
        leaves = random_leaves(dtype, columns)
        total = summed(comm, leaves)
        assert_everywhere(
            torch.equal(total, reduce_leaves(leaves, 0)[0]), f"the sum of {columns} columns"
        )


@pytest.mark.parametrize("size_of", [lambda rank: 7, lambda rank: 3 * rank])
def test_parts_of_a_sum_have_its_bits(comm, assert_everywhere, size_of):
    sizes = [size_of(rank) for rank in range(comm.size)]
    leaves = random_leaves(torch.float64, max(sum(sizes), 1))[:, : sum(sizes)]
    first, last = share_chunks(CHUNKS, comm.size)[comm.rank]
    nodes = reduce_leaves(leaves[first:last], first)
    before = nodes.clone()
    part = comm.sum_parts_by_tree(nodes, CHUNKS, sizes)
    expected = reduce_leaves(leaves, 0)[0].split(sizes)[comm.rank]
    assert_everywhere(torch.equal(part, expected), f"parts of {sizes}")
    part.zero_()
    assert_everywhere(torch.equal(nodes, before), "the caller's nodes stay")


def test_results_of_tree_sum_do_not_share_memory(comm, assert_everywhere):
    leaves = random_leaves(torch.float64, 5)
    first, last = share_chunks(CHUNKS, comm.size)[comm.rank]
    nodes = reduce_leaves(leaves[first:last], first)
    before = nodes.clone()
    total = comm.sum_by_tree(nodes, CHUNKS)
    kept = total.clone()
    comm.sum_by_tree(nodes + 1, CHUNKS)
    assert_everywhere(torch.equal(total, kept), "the first sum stays")
    total.zero_()
    assert_everywhere(torch.equal(nodes, before), "the caller's nodes stay")


def test_the_transport_is_named(comm, request, assert_everywhere):
    named = request.node.callspec.params["comm"] if comm.size > 1 else "none"
    assert_everywhere(comm.transport == named, "the name")


def test_more_ranks_than_chunks_is_an_error(comm):
    with pytest.raises(ValueError, match="chunks"):
        comm.sum_by_tree(torch.ones(2, 1), 1)


def test_maximum_is_taken_place_by_place(comm, assert_everywhere):
    greatest = comm.find_maximum([comm.rank, -comm.rank, 7, 2**60 + comm.rank])
    expected = [comm.size - 1, 0, 7, 2**60 + comm.size - 1]
    assert_everywhere(greatest == expected, "the maximum")


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_allgather_rows_joins_rows_of_unequal_counts(comm, assert_everywhere, dtype):
    counts = [(rank * 2) % 3 for rank in range(comm.size)]
    everything = torch.arange(sum(counts) * 6).reshape(sum(counts), 2, 3).to(dtype)
    local = everything.split(counts)[comm.rank]
    assert_everywhere(
        torch.equal(comm.allgather_rows(local, counts), everything), "the gathered rows"
    )


def test_allgather_rows_takes_rows_that_are_not_contiguous(comm, assert_everywhere):
    everything = torch.arange(12.0 * comm.size).reshape(3, 4 * comm.size).T
    local = everything[4 * comm.rank : 4 * comm.rank + 4]
    rows = comm.allgather_rows(local, [4] * comm.size)
    assert_everywhere(torch.equal(rows, everything), "the gathered rows")


def test_allgather_rows_checks_the_counts(comm):
    with pytest.raises(ValueError, match="2 rows where counts say"):
        comm.allgather_rows(torch.ones(2, 3), [1] * comm.size)


def test_broadcast_gives_the_value_of_any_root(comm, assert_everywhere):
    root = comm.size - 1
    assert_everywhere(comm.broadcast({"rank": comm.rank}, root) == {"rank": root}, "the object")
    tensor = torch.full((3, 2), float(comm.rank))
    assert_everywhere(comm.broadcast_tensor(tensor, root) is tensor, "the tensor is the caller's")
    assert_everywhere(bool((tensor == root).all()), "the tensor's values")


def test_broadcasts_that_have_started_arrive_in_any_order_of_waiting(comm, assert_everywhere):
    tensors = [torch.full((1000,), float(comm.rank + 10 * k)) for k in range(3)]
    waits = [comm.start_broadcast(each, k % comm.size) for k, each in enumerate(tensors)]
    for k in (2, 0, 1):
        waits[k]()
        expected = float(k % comm.size + 10 * k)
        assert_everywhere(bool((tensors[k] == expected).all()), f"tensor {k}")


def test_broadcast_tensor_refuses_what_it_would_copy(comm):
    with pytest.raises(ValueError, match="contiguous"):
        comm.broadcast_tensor(torch.ones(3, 2).T)


def test_gather_orders_values_by_rank(comm, assert_everywhere):
    values = comm.gather(f"rank {comm.rank}")
    expected = [f"rank {rank}" for rank in range(comm.size)]
    assert_everywhere(values == (expected if comm.is_root else None), "gathered on the root")
    assert_everywhere(comm.allgather(f"rank {comm.rank}") == expected, "gathered everywhere")


def test_on_root_runs_once_and_gives_its_result_to_all(comm, assert_everywhere):
    calls = []
    result = comm.run_on_root(lambda: calls.append(comm.rank) or comm.rank + 5)
    assert_everywhere(result == 5, "the result")
    assert_everywhere(len(calls) == (1 if comm.is_root else 0), "the number of calls")


def raised(comm, function):
    try:
        comm.run_on_root(function)
    except Exception as error:
        return error
    return None


def test_on_root_raises_the_same_error_on_all_ranks(comm, assert_everywhere):
    def fail():
        raise FileNotFoundError(2, "no such file", "job.toml")

    error = raised(comm, fail)
    assert_everywhere(type(error) is FileNotFoundError, "the type")
    assert_everywhere(getattr(error, "filename", None) == "job.toml", "what it carries")
    assert_everywhere(len(set(comm.allgather(str(error)))) == 1, "the message")


def test_on_all_makes_a_users_error_of_one_rank_an_input_error_of_all(comm, assert_everywhere):
    def fail():
        if comm.rank == comm.size - 1:
            raise UserCodeError("my_pde.py:3: ValueError: no")

    with pytest.raises(InputError) as caught:
        comm.run_on_all(fail)
    assert_everywhere(type(caught.value) is InputError, "no rank's own")
    assert_everywhere(str(caught.value) == "my_pde.py:3: ValueError: no", "the message")


@pytest.mark.mpi(min_size=2)
def test_on_root_names_an_error_that_cannot_be_sent(comm, assert_everywhere):
    def fail():
        raise UnpicklableError("radius", -1)

    error = raised(comm, fail)
    assert_everywhere(type(error) is RootError, "the type")
    assert_everywhere(str(error) == "UnpicklableError: radius = -1", "the message")


@pytest.mark.mpi(min_size=2)
def test_on_root_raises_everywhere_when_its_result_cannot_be_sent(comm, assert_everywhere):
    error = raised(comm, lambda: lambda: None)
    assert_everywhere(error is not None, "an error")
    assert_everywhere(len(set(comm.allgather(str(error)))) == 1, "the same error")


def test_split_groups_ranks_by_colour_and_orders_them_by_key(comm, assert_everywhere):
    part = comm.split(comm.rank % 2, key=-comm.rank)
    members = [rank for rank in reversed(range(comm.size)) if rank % 2 == comm.rank % 2]
    assert_everywhere(part.allgather(comm.rank) == members, "the members")
    assert_everywhere(part.timer is comm.timer and part.traffic is comm.traffic, "shared counts")
    part.free()


def test_tensors_travel_within_a_split_in_its_own_order(comm, assert_everywhere):
    part = comm.split(comm.rank % 2, key=-comm.rank)
    members = [rank for rank in reversed(range(comm.size)) if rank % 2 == comm.rank % 2]
    own = torch.full((part.rank + 1, 2), float(comm.rank))
    rows = part.allgather_rows(own, list(range(1, part.size + 1)))
    expected = [float(rank) for place, rank in enumerate(members) for _ in range(place + 1)]
    assert_everywhere(rows[:, 1].tolist() == expected, "the rows in the order of the keys")
    tensor = part.broadcast_tensor(torch.tensor([float(comm.rank)]), part.size - 1)
    assert_everywhere(tensor.tolist() == [float(members[-1])], "the last member's tensor")
    leaves = random_leaves(torch.float64, 9)
    total = summed(part, leaves)
    assert_everywhere(torch.equal(total, reduce_leaves(leaves, 0)[0]), "the sum's bits")
    part.free()


TREES = {"all": range(8), "few": [1, 6], "side by side": [2, 3], "one": [5], "none": []}


def weigh(left, right):
    """Neither (a, b) nor (a, (b, c)) can be told from others by chance."""
    return 0.3 * left - 1.7 * right


def merged(ranks):
    """The roots of this rank's trees over 8 chunks, of which some have few leaves."""
    held, parts = share_chunks(8, ranks.size)[ranks.rank], {}
    for k, (name, leaves) in enumerate(TREES.items()):
        for node in find_aligned_nodes(*held):
            own = {
                Node(0, leaf): torch.linspace(leaf, k, 3 + k, dtype=torch.float64).view(1, -1)
                for leaf in leaves
                if node.first <= leaf < node.last
            }
            if own:
                parts[name, node] = merge_nodes(own, weigh)
    like = torch.empty(0, dtype=torch.float64)
    return merge_at_owners(parts, lambda name: len(name) % ranks.size, weigh, ranks, like)


def test_trees_that_lack_leaves_are_merged_at_their_owners_as_on_one_rank(comm, assert_everywhere):
    found, expected = merged(comm), merged(Communicator())
    names = {name for name in expected if len(name) % comm.size == comm.rank}
    assert_everywhere(found.keys() == names, "the trees of a rank")
    same = all(torch.equal(found[name], expected[name]) for name in names)
    assert_everywhere(same, "the roots")
    right = weigh(*(torch.linspace(leaf, 1, 4, dtype=torch.float64) for leaf in (1, 6)))
    assert torch.equal(expected["few"][0], right)
    assert expected.keys() == TREES.keys() - {"none"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 7])
def test_tensors_are_shared_by_their_owners(comm, assert_everywhere, dtype, count):
    """Ranks without any too; laid out as on one rank, and at multiples of 64 bytes."""
    made = {k: torch.full((k + 1, 3), float(k), dtype=dtype).mT for k in range(count)}
    shapes = {k: tensor.shape for k, tensor in made.items()}
    own = {k: tensor for k, tensor in made.items() if k % comm.size == comm.rank}
    found = share_tensors(own, shapes, lambda k: k % comm.size, comm, torch.empty(0, dtype=dtype))
    same = found.keys() == made.keys() and all(torch.equal(found[k], made[k]) for k in made)
    assert_everywhere(same, "the tensors")
    placed = all(t.is_contiguous() and t.data_ptr() % 64 == 0 for t in found.values())
    assert_everywhere(placed, "where they lie")


def test_ranks_started_on_one_machine_share_a_node(comm, assert_everywhere):
    assert_everywhere(comm.find_node_ranks() == list(range(comm.size)), "the ranks of the node")


def test_calls_are_timed_as_communication_and_counted(comm, assert_everywhere):
    row = PHASES.index("communication")
    before = comm.timer.snapshot()
    messages, sent = comm.traffic.messages, comm.traffic.bytes
    summed(comm, random_leaves(torch.float64, 1000))
    comm.barrier()
    spent = comm.timer.snapshot() - before
    if comm.size > 1:
        assert_everywhere(spent[row, 0] > 0, "wall time of communication")
        assert_everywhere(comm.traffic.messages >= messages + 2, "messages")
        assert_everywhere(comm.traffic.bytes >= sent + 8000, "bytes")
    assert_everywhere(np.delete(spent, row, axis=0).sum() == 0, "no time of other phases")


def test_failed_assertion_names_the_ranks(comm, assert_everywhere):
    with pytest.raises(AssertionError, match=rf"rank is 0: fails on ranks .* of {comm.size}"):
        assert_everywhere(comm.rank > 0, "no rank is 0")
