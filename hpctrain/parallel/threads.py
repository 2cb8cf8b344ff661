"""Divides the cores of a node among its ranks, and warns where threads outnumber cores."""

import os
import warnings
from collections.abc import Sequence
from fractions import Fraction

import torch

from hpctrain.errors import InputError
from hpctrain.parallel.communicator import Communicator

# Threads of a rank, at most: more than any node has cores, and few enough to be started anywhere.
MOST_THREADS = 1024


def check_threads(threads: int, asked: str) -> None:
    """Checks a number of threads that a user gives.

    Args:
        asked: how messages name it, such as "--threads 0".

    Raises:
        InputError: fewer than one are asked for, or too many to be started.
    """
    if not 1 <= threads <= MOST_THREADS:
        raise InputError(f"{asked} is not allowed: at least 1 and at most {MOST_THREADS}")


def set_threads(communicator: Communicator, requested: int | None = None) -> int:
    """Sets the number of torch's threads on this rank; collective.

    Args:
        communicator: all ranks of the job.
        requested: the threads of each rank. None to divide the cores among the ranks of the node.

    Returns:
        The number of threads, which the compiled kernels are given too. It changes no result, since
        sums follow a fixed tree.
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
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def compute_core_share(mine: set[int], on_node: Sequence[set[int]]) -> Fraction:
    """Computes how many cores of its node a rank can count as its own.

    A core that several ranks may use counts as a fraction for each. So ranks that are not bound
    divide the cores of the node evenly, and ranks bound to cores of their own keep these.

    Args:
        mine: the cores that this rank may use.
        on_node: the cores that each rank on the node may use, this rank included.
    """
    return sum((Fraction(1, sum(core in cores for cores in on_node)) for core in mine), Fraction())


def _warn_if_crowded(communicator: Communicator, threads: Sequence[int], cores: int) -> None:
    """Warns once, on rank 0, if the ranks of a node run more threads than it has cores."""
    (excess,) = communicator.find_maximum([sum(threads) - cores])
    if excess > 0 and communicator.is_root:
        fewer = f"set parallel.threads lower than {max(threads)} or " if max(threads) > 1 else ""
        warnings.warn(
            f"a node runs {excess} threads more than it has cores, which slows all ranks down:"
            f" {fewer}start fewer ranks per node",
            stacklevel=3,
        )
