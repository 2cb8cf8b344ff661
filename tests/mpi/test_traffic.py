"""Messages and bytes as they are counted: what a model of the network multiplies."""

import math

import pytest
import torch
from job_texts import write_text

from hpctrain.job.settings import parse_job
from hpctrain.parallel import tree_messages
from hpctrain.parallel.tree import find_aligned_nodes, share_chunks
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run
from hpctrain.study.projection import find_network

CHUNKS = 64
JOB = write_text(
    'name = "klein-gordon"\npoints = 64',
    network="depth = 3\nwidth = 4",
    solver='name = "ssbroyden"',
    output="error_every = 1",
    stop="max_iterations = 3",
)


def traffic_of(comm, call):
    """Messages and bytes of a call."""
    before = comm.traffic.snapshot()
    call()
    return tuple(comm.traffic.snapshot() - before)


@pytest.fixture
def depth(comm):
    """⌈log₂ P⌉."""
    return math.ceil(math.log2(comm.size))


@pytest.mark.mpi(min_size=2)
def test_a_sum_is_a_message_a_level_and_twice_where_the_tree_is_not_whole(
    comm, depth, assert_everywhere
):
    held = find_aligned_nodes(*share_chunks(CHUNKS, comm.size)[comm.rank])
    nodes = torch.ones(len(held), 10, dtype=torch.float64)
    counted = traffic_of(comm, lambda: comm.sum_by_tree(nodes, CHUNKS))
    whole = comm.size & (comm.size - 1) == 0
    expected = (depth, 80 * depth) if whole else (2 * depth, 80 * (depth + min(depth, 2)))
    assert_everywhere(counted == expected, f"{counted} is not {expected}")


@pytest.mark.mpi(min_size=2)
def test_a_long_sum_sends_no_more_than_twice_its_bytes(comm, depth, assert_everywhere, monkeypatch):
    monkeypatch.setattr(tree_messages, "is_long", lambda *_: True)
    share = share_chunks(CHUNKS, comm.size)[comm.rank]
    held, m = find_aligned_nodes(*share), 120 * comm.size
    nodes = torch.ones(len(held), m, dtype=torch.float64)
    counted = traffic_of(comm, lambda: comm.sum_by_tree(nodes, CHUNKS))
    others, part = comm.size - 1, 8 * 120
    if comm.size & (comm.size - 1) == 0:
        expected = (2 * depth, 2 * others * part)
    else:
        expected = (others + depth, (len(held) + 1) * others * part)
    assert_everywhere(counted == expected, f"{counted} is not {expected}")
    if len(held) == max(len(find_aligned_nodes(*its)) for its in share_chunks(CHUNKS, comm.size)):
        assert tree_messages.count_sum(8 * m, CHUNKS, comm.size) == pytest.approx(counted)


def predict(messages, sent):
    """Seconds on ethernet-10g."""
    return find_network("ethernet-10g").predict_seconds(messages, sent)


@pytest.mark.parametrize("ranks", [4, 8, 48, 96, 512])
def test_sums_are_by_parts_where_that_takes_less_time(ranks):
    # The messages and bytes of the two tests above, on any number of ranks.
    depth, chunks = math.ceil(math.log2(ranks)), 1 << max(6, (ranks - 1).bit_length())
    most = max(len(find_aligned_nodes(*share)) for share in share_chunks(chunks, ranks))
    for size in (2**k for k in range(10, 26)):
        if ranks & (ranks - 1) == 0:
            whole = predict(depth, depth * size)
            parts = predict(2 * depth, 2 * (1 - 1 / ranks) * size)
        else:
            whole = predict(2 * depth, (depth + 2) * size)
            parts = predict(ranks - 1 + depth, (most + 1) * (1 - 1 / ranks) * size)
        if not 0.8 < whole / parts < 1.25:  # the network's latency is of 37,500 bytes
            assert tree_messages.is_long(size, chunks, ranks) is (parts < whole), (size, ranks)


@pytest.mark.mpi(min_size=2)
def test_a_gather_brings_what_the_others_have(comm, depth, assert_everywhere):
    counts = list(range(1, comm.size + 1))
    own = torch.ones(counts[comm.rank], 3, dtype=torch.float32)
    counted = traffic_of(comm, lambda: comm.allgather_rows(own, counts))
    others = sum(counts) - counts[comm.rank]
    assert_everywhere(counted == (depth, 12 * others), f"{counted} of {others} rows")


@pytest.mark.mpi(min_size=2)
def test_agreement_and_broadcast_count_alike_on_all_ranks(comm, depth, assert_everywhere):
    tensor = torch.ones(5, dtype=torch.float64)
    assert_everywhere(traffic_of(comm, comm.barrier) == (depth, 0), "a barrier")
    assert_everywhere(
        traffic_of(comm, lambda: comm.find_maximum([1])) == (depth, 8 * depth), "flags"
    )
    counted = traffic_of(comm, lambda: comm.broadcast_tensor(tensor))
    assert_everywhere(counted == (depth, 40 * min(depth, 2)), "a broadcast")


def test_one_rank_sends_nothing(comm, assert_everywhere):
    if comm.size == 1:
        counted = traffic_of(comm, lambda: comm.find_maximum([1, 2]))
        assert_everywhere(counted == (0, 0), "a rank alone")


@pytest.mark.mpi(min_size=2)
def test_messages_and_bytes_are_recorded_beside_the_phases(comm, folder, assert_everywhere):
    run(parse_job(JOB, "a test"), comm, str(folder / "run.h5"))
    found = read_run(folder / "run.h5")
    assert_everywhere(found.traffic.shape == (4, comm.size, 2), "a row of each rank a record")
    least = [1, 8 * found.attributes["parameters"]]  # of an iteration, which sums a gradient
    assert_everywhere(bool((found.traffic[1:] >= least).all()), "messages and bytes")
