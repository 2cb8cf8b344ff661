"""Transports, which carry tensors from rank to rank: one interface, and a file for each library."""

from hpctrain.parallel.transports.base import Transport
from hpctrain.parallel.transports.mpi import DeviceMPI, HostMPI
from hpctrain.parallel.transports.staging import Staged

__all__ = ["DeviceMPI", "HostMPI", "Staged", "Transport"]
