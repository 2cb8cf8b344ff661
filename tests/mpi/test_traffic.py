"""Messages and bytes as they are counted: what a model of the network multiplies."""

import math

import pytest
import torch
from job_texts import write_text

from hpctrain.job.settings import parse_job
from hpctrain.parallel.tree import find_aligned_nodes, share_chunks
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

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
