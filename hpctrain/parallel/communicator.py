"""Communication among ranks: sums, gathers, broadcasts, and values on which all ranks agree.

A `Communicator` duplicates an mpi4py communicator. Where there is one rank only it makes no MPI
call. Every method is collective unless it says otherwise: all ranks call it, in the same order.
Tensors are carried by a transport (`hpctrain.parallel.transports`), flags and objects by MPI, and
only objects are pickled. A rank that fails must end the job (`hpctrain.parallel.launch`), since the
others would wait for it.
"""

import math
import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from hpctrain.errors import InputError, UserCodeError
from hpctrain.parallel.guard import Guard, is_wanted
from hpctrain.parallel.phases import PhaseTimer
from hpctrain.parallel.traffic import Traffic, count_bytes, count_steps
from hpctrain.parallel.transports import HostMPI, Transport
from hpctrain.parallel.tree import find_aligned_nodes, reduce_leaves, share_chunks
from hpctrain.parallel.tree_messages import FindShape, Merge, TreeMessages, list_partners

if TYPE_CHECKING:
    from mpi4py import MPI

Result = TypeVar("Result")


class RootError(RuntimeError):
    """Stands for an error of rank 0 that could not be pickled for the other ranks."""


class Communicator:
    """A group of ranks that compute together.

    Args:
        mpi: an mpi4py communicator, which is duplicated. None for one rank without MPI.
        timer: measures the time of all calls as the phase "communication".
        traffic: counts messages and bytes.
        transport: makes the transport of tensors out of the mpi4py communicator.
    """

    def __init__(
        self,
        mpi: "MPI.Intracomm | None" = None,
        timer: PhaseTimer | None = None,
        traffic: Traffic | None = None,
        transport: Callable[[Any], Transport] = HostMPI,
    ) -> None:
        self.timer = timer or PhaseTimer()
        self.traffic = traffic or Traffic()
        self.rank = 0 if mpi is None else mpi.Get_rank()
        self.size = 1 if mpi is None else mpi.Get_size()
        # Only looked at where size > 1.
        self._mpi: Any = mpi.Dup() if mpi is not None and self.size > 1 else None
        self._transport: Any = None
        self._tree: Any = None
        if self._mpi is not None:
            self._transport = transport(self._mpi)
            self._tree = TreeMessages(self.rank, self.size, self._transport, self.traffic)
        self._guard = Guard(self._mpi) if self._mpi is not None and is_wanted() else None

    @property
    def mpi_version(self) -> str:
        """The name and version of the MPI library, or "none" where MPI is not used."""
        if self._mpi is None:
            return "none"
        from mpi4py import MPI

        return MPI.Get_library_version().splitlines()[0].strip("\0 ")

    @property
    def transport(self) -> str:
        """The name of the transport, or "none" for one rank."""
        return "none" if self._transport is None else self._transport.name

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0; no communication."""
        return self.rank == 0

    def sum_leaves(self, leaves: Tensor, chunks: int) -> Tensor:
        """Sums over all chunks of all ranks, with equal bits on all, and for any number of ranks.

        Args:
            leaves: (C, …), a value for each chunk of this rank's `tree.share_chunks`.
            chunks: the number of chunks of all ranks, a power of two, at least `size`.
        """
        first, _ = share_chunks(chunks, self.size)[self.rank]
        nodes = reduce_leaves(leaves.reshape(len(leaves), -1), first)
        return self.sum_by_tree(nodes, chunks).view(leaves.shape[1:])

    def sum_by_tree(self, nodes: Tensor, chunks: int) -> Tensor:
        """Sums over all chunks, of which each rank has summed its own subtrees.

        Args:
            nodes: (K, m), what `tree.reduce_leaves` returns for this rank's `tree.share_chunks`.
            chunks: the number of chunks of all ranks, a power of two, at least `size`.

        Returns:
            (m,), new memory. The bits are equal on all ranks and for any number of them.
        """
        held = find_aligned_nodes(*share_chunks(chunks, self.size)[self.rank])
        if len(nodes) != len(held):
            raise ValueError(
                f"rank {self.rank} holds {len(held)} subtrees of {chunks} chunks, not {len(nodes)}"
            )
        if self.size == 1:
            return nodes[0].detach().clone()
        with self._begin_call():
            return self._tree.sum(nodes, held, chunks)

    def sum_parts_by_tree(
        self, nodes: Sequence[Tensor], chunks: int, sizes: Sequence[int]
    ) -> Tensor:
        """Sums as `sum_by_tree` with the same bits, but each rank gets its part of the sum only.

        Args:
            nodes: K tensors (m,), the sums of this rank's subtrees.
            chunks: as for `sum_by_tree`.
            sizes: how many of the m numbers each rank gets, in the order of ranks.

        Returns:
            (sizes[rank],), new memory.
        """
        if self.size == 1:
            return nodes[0].detach().clone()
        parts = [torch.split(node.detach(), list(sizes)) for node in nodes]
        with self._begin_call():
            return self._tree.sum_parts(parts, chunks)

    def merge_by_tree(
        self,
        nodes: Sequence[Tensor],
        chunks: int,
        merge: Merge,
        find_shape: FindShape,
    ) -> Tensor:
        """Merges what subtrees of chunks have, up the tree, as `sum_by_tree` adds.

        Args:
            nodes: of this rank's subtrees, `tree.find_aligned_nodes` of its chunks.
            chunks: as for `sum_by_tree`.
            merge: makes a node's tensor of those of its left and its right child.
            find_shape: the shape of a node's tensor, the same function on all ranks.

        Returns:
            The root's tensor, new memory, with equal bits on all ranks and for any number of them.
        """
        if self.size == 1:
            return nodes[0].detach().clone()
        held = find_aligned_nodes(*share_chunks(chunks, self.size)[self.rank])
        with self._begin_call():
            values = dict(zip(held, nodes, strict=True))
            return self._tree.merge(values, chunks, merge, find_shape)

    def find_maximum(self, values: Sequence[int]) -> list[int]:
        """Returns the maximum over all ranks of each integer, such as a code or a flag."""
        if self.size == 1:
            return list(values)
        with self._begin_call():
            from mpi4py import MPI

            greatest = np.array(values, dtype=np.int64)
            self._mpi.Allreduce(MPI.IN_PLACE, greatest, MPI.MAX)
            self.traffic.count(count_steps(self.size) * greatest.nbytes, count_steps(self.size))
            return greatest.tolist()

    def allgather_rows(self, local: Tensor, counts: Sequence[int]) -> Tensor:
        """Returns the rows of all ranks, one rank's after the other's, on every rank.

        Args:
            local: (counts[rank], …), this rank's rows.
            counts: the number of rows of each rank.
        """
        if len(counts) != self.size or counts[self.rank] != len(local):
            raise ValueError(
                f"rank {self.rank} of {self.size} has {len(local)} rows where counts say {counts}"
            )
        if self.size == 1:
            return local.clone()
        with self._begin_call():
            rows = local.new_empty(sum(counts), *local.shape[1:])
            width = math.prod(local.shape[1:])
            sizes = [count * width for count in counts]
            self._transport.gather(local.detach().contiguous(), rows, sizes)
            self.traffic.count(count_bytes(rows) - count_bytes(local), count_steps(self.size))
            return rows

    def exchange_all(self, sent: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Sends each rank a tensor, and returns what each has sent this one, in order of ranks.

        Two ranks that have no numbers for each other exchange no message.

        Args:
            sent: contiguous, for each rank; that for this one is returned itself.
            shapes: of what comes from each rank.
        """
        received = list(sent)
        with self._begin_call():
            for partner in list_partners(self.rank, self.size):
                received[partner] = sent[partner].new_empty(shapes[partner])
                if not sent[partner].numel() + received[partner].numel():
                    continue
                self._transport.exchange(sent[partner], received[partner], partner)
                self.traffic.count(count_bytes(sent[partner]))
        return received

    def broadcast_tensor(self, tensor: Tensor, root: int = 0) -> Tensor:
        """Overwrites a contiguous tensor, of equal shape on all ranks, with that of `root`."""
        self.start_broadcast(tensor, root)()
        return tensor

    def start_broadcast(self, tensor: Tensor, root: int = 0) -> Callable[[], None]:
        """Starts a `broadcast_tensor`, and returns a function that waits for its end.

        Ranks can compute in between, but must not use the tensor.
        """
        if not tensor.is_contiguous():
            raise ValueError("only a contiguous tensor can be broadcast in place")
        if self.size == 1:
            return lambda: None
        with self._begin_call():
            arrive = self._transport.start_broadcast(tensor, root)
            self.traffic.count_broadcast(count_bytes(tensor), self.size)

        def wait() -> None:
            with self.timer.phase("communication"):
                arrive()

        return wait

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """Returns the value of `root`, which is pickled. What other ranks pass is ignored."""
        if self.size == 1:
            return value
        message = pickle.dumps(value) if self.rank == root else b""
        message = self._broadcast_bytes(message, root)
        return value if self.rank == root else pickle.loads(message)

    def _broadcast_bytes(self, message: bytes, root: int) -> bytes:
        with self._begin_call():
            message = self._mpi.bcast(message, root)
            self.traffic.count_broadcast(len(message), self.size)
            return message

    def gather(self, value: Any) -> list[Any] | None:
        """Returns the values of all ranks, by rank, to rank 0, and None to the others."""
        if self.size == 1:
            return [value]
        with self._begin_call():
            message = pickle.dumps(value)
            # Rank 0 takes as much from each of the others, about.
            self.traffic.count((self.size - 1) * len(message), count_steps(self.size))
            messages = self._mpi.gather(message)
            return None if messages is None else [pickle.loads(each) for each in messages]

    def allgather(self, value: Any) -> list[Any]:
        """Returns the values of all ranks, by rank, to every rank."""
        return self.broadcast(self.gather(value))

    def find_different(self, value: Any) -> int | None:
        """Finds the first rank whose value is not equal to rank 0's; None where all are equal."""
        values = self.allgather(value)
        return next((rank for rank, each in enumerate(values) if each != values[0]), None)

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self.size > 1:
            with self._begin_call():
                self._mpi.Barrier()
                self.traffic.count(0, count_steps(self.size))

    def run_on_root(self, function: Callable[[], Result]) -> Result:
        """Calls a function on rank 0 only; all ranks return its result or raise its exception.

        An exception that cannot be pickled is raised as a `RootError`, on rank 0 too.
        """
        if self.size == 1:
            return function()
        outcome: Any = None
        message = b""
        if self.is_root:
            outcome, message = _attempt(function)
        message = self._broadcast_bytes(message, 0)
        if not self.is_root:
            outcome = pickle.loads(message)
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def run_on_all(self, function: Callable[[], Result]) -> Result:
        """Calls a function on every rank, such as one that reads the rank's own input.

        Returns:
            This rank's result.

        Raises:
            InputError: that of the lowest rank which raised one, on all ranks. It is a plain
                InputError also where it was a `UserCodeError`.
        """
        result, error = None, None
        try:
            result = function()
        except InputError as raised:
            error = raised
        errors = [each for each in self.allgather(error) if each is not None]
        if errors:
            first = errors[0]
            raise InputError(*first.args) if isinstance(first, UserCodeError) else first from error
        return cast(Result, result)

    def split(self, color: int, key: int | None = None) -> "Communicator":
        """Makes a communicator of the ranks with the same `color`, ordered by `key`.

        Timer and traffic are shared with this communicator.
        """
        if self.size == 1:
            return Communicator(None, self.timer, self.traffic)
        with self._begin_call():
            part = self._mpi.Split(color, self.rank if key is None else key)
            communicator = Communicator(part, self.timer, self.traffic, self._transport.split)
            part.Free()
            return communicator

    def use_transport(self, transport: Callable[[Any], Transport]) -> "Communicator":
        """Makes a communicator of the same ranks with another transport, to be freed by itself.

        Timer and traffic are shared with this communicator.
        """
        return Communicator(self._mpi, self.timer, self.traffic, transport)

    def find_node_ranks(self) -> list[int]:
        """Lists the ranks on this rank's node in order, this one included."""
        if self.size == 1:
            return [0]
        with self._begin_call():
            from mpi4py import MPI

            node = self._mpi.Split_type(MPI.COMM_TYPE_SHARED)
            ranks = node.allgather(self.rank)
            node.Free()
            return ranks

    def free(self) -> None:
        """Frees transport and MPI communicator; a library has only some thousand of these."""
        if self._mpi is not None:
            self._transport.close()
            self._mpi.Free()
            self._mpi = None

    def _begin_call(self) -> AbstractContextManager[None]:
        """Starts the phase of a collective call; in debug mode ranks first compare places."""
        if self._guard is not None:
            self._guard.check()
        return self.timer.phase("communication")


@dataclass(frozen=True)
class _Failure:
    """An exception of rank 0, as it is sent to the other ranks."""

    error: Exception


def _attempt(function: Callable[[], Any]) -> tuple[Any, bytes]:
    """Calls a function; returns its result, or its exception as a `_Failure`, and this pickled."""
    try:
        outcome = function()
        return outcome, pickle.dumps(outcome)
    except Exception as error:
        failure = _Failure(error)
        try:
            message = pickle.dumps(failure)
            pickle.loads(message)
        except Exception:
            failure = _Failure(RootError(f"{type(error).__name__}: {error}"))
            failure.error.__cause__ = error
            message = pickle.dumps(failure)
        return failure, message
