"""Divides the cores of a node among the ranks on it; warns where threads outnumber them."""

import os
import warnings
from collections.abc import Sequence
from fractions import Fraction

import torch

from hpctrain.parallel.communicator import Communicator


def set_threads(communicator: Communicator, requested: int | None = None) -> int:
    """Sets torch's threads on this rank; collective.

    Args:
        communicator: all ranks of the job.
        requested: threads per rank; None for this rank's part of the cores.

    Returns:
        The number of threads, to be given to the native kernels as well. It never changes a
        result: sums run along a fixed tree.
    """
    if requested is not None and requested < 1:
        raise ValueError(f"a rank needs at least one thread, not {requested}")
    cores = communicator.allgather(find_visible_cores())
    node = communicator.find_node_ranks()
    on_node = [cores[rank] for rank in node]
    threads = requested or max(1, int(compute_core_share(cores[communicator.rank], on_node)))
    torch.set_num_threads(threads)
    used = communicator.allgather(threads)
    _warn_if_crowded(communicator, [used[rank] for rank in node], len(set().union(*on_node)))
    return threads


def find_visible_cores() -> set[int]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def compute_core_share(mine: set[int], on_node: Sequence[set[int]]) -> Fraction:
    """How many cores a rank may count as its own.

    A core counts as a fraction if several ranks may run on it: unbound ranks divide the node's
    cores evenly, ranks that the launcher bound to cores of their own keep them all.

    Args:
        mine: the cores that this rank may run on.
        on_node: the same for each rank on the node, this one included.
    """
    return sum((Fraction(1, sum(core in cores for cores in on_node)) for core in mine), Fraction())


def _warn_if_crowded(communicator: Communicator, threads: Sequence[int], cores: int) -> None:
    """Warns once, on rank 0, if the ranks of any node run more threads than it has cores."""
    (excess,) = communicator.find_maximum([sum(threads) - cores])
    if excess > 0 and communicator.is_root:
        fewer = f"set parallel.threads lower than {max(threads)} or " if max(threads) > 1 else ""
        warnings.warn(
            f"a node runs {excess} threads more than it has cores, which slows all ranks down:"
            f" {fewer}start fewer ranks per node",
            stacklevel=3,
        )
