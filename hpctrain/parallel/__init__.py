"""Ranks, threads, devices and sums over ranks. Only this package imports mpi4py."""

from hpctrain.parallel.communicator import Communicator, RootError
from hpctrain.parallel.grid import BlockMap, assign_blocks, make_block_communicator
from hpctrain.parallel.launch import LaunchError, finish, start
from hpctrain.parallel.threads import set_threads
from hpctrain.parallel.traffic import Traffic

__all__ = [
    "BlockMap",
    "Communicator",
    "LaunchError",
    "RootError",
    "Traffic",
    "assign_blocks",
    "finish",
    "make_block_communicator",
    "set_threads",
    "start",
]
