"""Ranks, threads and sums: the only package that imports mpi4py."""

from hpctrain.parallel.communicator import Communicator, RootError, Traffic
from hpctrain.parallel.grid import BlockMap, assign_blocks, block_communicator
from hpctrain.parallel.launch import LaunchError, finish, start
from hpctrain.parallel.threads import set_threads

__all__ = [
    "BlockMap",
    "Communicator",
    "LaunchError",
    "RootError",
    "Traffic",
    "assign_blocks",
    "block_communicator",
    "finish",
    "set_threads",
    "start",
]
