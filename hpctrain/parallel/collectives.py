"""Times this program's collective calls: mpirun -n 2 python -m hpctrain.parallel.collectives FILE

Writes to FILE, as JSON, a list of calls: their messages and bytes as the communicator counts them,
and the seconds that one takes, the median over rounds of calls in a row.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.launch import finish, start
from hpctrain.parallel.tree import find_aligned_nodes, share_chunks

SIZES = [8 * 8**k for k in range(8)]  # bytes: 8 B to 16 MB
CHUNKS = 64
ROUNDS = 7
SECONDS = 0.02  # of a round, about


def main(path: str) -> int:
    ranks = start()
    calls = [measure_call(ranks, call) for size in SIZES for call in make_calls(ranks, size // 8)]
    if ranks.is_root:
        Path(path).write_text(json.dumps(calls))
    return finish(ranks)


def make_calls(ranks: Communicator, numbers: int) -> list[Callable[[], object]]:
    """Makes two calls: a sum of so many numbers over the ranks, and a gather of as many in all."""
    held = find_aligned_nodes(*share_chunks(CHUNKS, ranks.size)[ranks.rank])
    nodes = torch.ones(len(held), numbers, dtype=torch.float64)
    counts = [last - first for first, last in share_chunks(CHUNKS, ranks.size)]
    rows = torch.ones(counts[ranks.rank], -(-numbers // CHUNKS), dtype=torch.float64)
    return [lambda: ranks.sum_by_tree(nodes, CHUNKS), lambda: ranks.allgather_rows(rows, counts)]


def measure_call(ranks: Communicator, call: Callable[[], object]) -> dict[str, float]:
    """Measures one call: its `messages`, its `bytes` and its `seconds`."""
    before = ranks.traffic.snapshot()
    call()
    messages, sent = ranks.traffic.snapshot() - before
    once = max(time_call(ranks, call, 3), 1e-7)
    (repeats,) = ranks.find_maximum([max(3, int(SECONDS / once))])
    rounds = [time_call(ranks, call, repeats) for _ in range(ROUNDS)]
    return {"messages": messages, "bytes": sent, "seconds": statistics.median(rounds)}


def time_call(ranks: Communicator, call: Callable[[], object], repeats: int) -> float:
    """Measures the seconds of one call, as the mean over `repeats` calls in a row."""
    ranks.barrier()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
