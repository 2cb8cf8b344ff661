"""Sums and other merges along the tree of chunks, by messages between ranks.

The bits do not depend on the number of ranks: all of them merge the same pairs of nodes. A short
sum takes few messages: where P is a power of two, a rank has one subtree, and pairs of ranks
exchange what they have, ⌈log₂ P⌉ times all of it; else sums go up the tree and the root is
broadcast. A long one takes few bytes: each rank sums a P-th of the numbers, and the parts are
gathered, 2 (1 - 1/P) times all of it where P is a power of two (Thakur, Rabenseifner, Gropp,
International Journal of High Performance Computing Applications 19(1), 2005).
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from hpctrain.parallel.traffic import Traffic, count_bytes, count_steps
from hpctrain.parallel.transports import Transport
from hpctrain.parallel.tree import Node, find_aligned_nodes, list_joins, share_chunks

Merge = Callable[[Tensor, Tensor], Tensor]
FindShape = Callable[[Node], Sequence[int]]

# Bytes that take as long as a message's latency: 25 to 40 thousand on the networks of
# `study.projection`.
LATENCY_BYTES = 32_768


@cache
def is_long(size: int, chunks: int, ranks: int) -> bool:
    """Whether a sum of so many bytes is quicker by parts than as a whole, by messages and bytes."""
    whole, parts = _count_whole(size, ranks), _count_parts(size, chunks, ranks)
    return _weigh(*parts) < _weigh(*whole)


def count_sum(size: int, chunks: int, ranks: int) -> tuple[int, float]:
    """The messages that a sum of `size` bytes takes one after the other, and the bytes in them."""
    by_parts = is_long(size, chunks, ranks)
    return _count_parts(size, chunks, ranks) if by_parts else _count_whole(size, ranks)


def _count_whole(size: int, ranks: int) -> tuple[int, float]:
    depth = count_steps(ranks)
    if _is_power_of_two(ranks):
        return depth, depth * size
    return 2 * depth, (depth + min(depth, 2)) * size


def _count_parts(size: int, chunks: int, ranks: int) -> tuple[int, float]:
    depth, others = count_steps(ranks), 1 - 1 / ranks
    if _is_power_of_two(ranks):
        return 2 * depth, 2 * others * size
    most = max(len(find_aligned_nodes(*share)) for share in share_chunks(chunks, ranks))
    return ranks - 1 + depth, (most + 1) * others * size


def _weigh(messages: int, sent: float) -> float:
    return messages * LATENCY_BYTES + sent


def _is_power_of_two(ranks: int) -> bool:
    return ranks & (ranks - 1) == 0


class TreeMessages:
    """Merges what several ranks have; its methods are collective.

    Args:
        rank, size: of the ranks, and how many there are, two at least.
        transport: carries tensors.
        traffic: counts messages and bytes.
    """

    def __init__(self, rank: int, size: int, transport: Transport, traffic: Traffic) -> None:
        self._rank, self._size = rank, size
        self._transport, self._traffic = transport, traffic
        self._received = torch.empty(0, dtype=torch.uint8, device="cpu")

    def sum(self, nodes: Tensor, held: Sequence[Node], chunks: int) -> Tensor:
        """The sum (m,) over all chunks of all ranks, of this rank's subtrees `held`, (K, m)."""
        by_parts = is_long(count_bytes(nodes[0]), chunks, self._size)
        if _is_power_of_two(self._size):
            return self._sum_by_halves(nodes[0]) if by_parts else self._sum_by_doubling(nodes[0])
        if by_parts:
            return self._exchange_and_gather(nodes, chunks)
        values = dict(zip(held, nodes.detach(), strict=True))
        return self.merge(values, chunks, torch.add, lambda _: nodes.shape[1:])

    def sum_parts(self, parts: Sequence[Sequence[Tensor]], chunks: int) -> Tensor:
        """This rank's part of the sum.

        Args:
            parts: of each of this rank's subtrees, by the rank that gets them.
            chunks: of all ranks.
        """
        if _is_power_of_two(self._size):
            return self._sum_by_halving(dict(enumerate(parts[0])))
        return self._exchange_parts(parts, chunks)

    def _sum_by_doubling(self, node: Tensor) -> Tensor:
        """Sums for 2^L ranks of one subtree each, which exchange their sums in pairs and add them.

        a + b and b + a have the same bits.
        """
        total = node.detach().clone()
        received = self._make_receive_buffer(total)
        for level in range(self._size.bit_length() - 1):
            partner = self._rank ^ (1 << level)
            self._transport.exchange(total, received, partner)
            self._traffic.count(count_bytes(total))
            total += received
        return total

    def _sum_by_halves(self, node: Tensor) -> Tensor:
        """The same additions by halves: in a step two ranks add one half each of what is left.

        Then they give each other what they have added, in steps from the last to the first.
        """
        total = node.detach().clone()
        buffer = self._make_receive_buffer(total[: len(total) // 2 + 1])
        steps = list[tuple[int, Tensor, Tensor]]()
        rest = total
        for level in range(self._size.bit_length() - 1):
            bit, middle = 1 << level, len(rest) // 2
            low, high = rest[:middle], rest[middle:]
            kept, given = (high, low) if self._rank & bit else (low, high)
            received = buffer[: len(kept)]
            self._transport.exchange(given, received, self._rank ^ bit)
            self._traffic.count(count_bytes(given))
            kept += received
            steps.append((self._rank ^ bit, kept, given))
            rest = kept
        for partner, kept, given in reversed(steps):
            self._transport.exchange(kept, given, partner)
            self._traffic.count(count_bytes(kept))
        return total

    def _exchange_and_gather(self, nodes: Tensor, chunks: int) -> Tensor:
        """The sum by parts where the ranks are no power of two."""
        m = nodes.shape[1]
        bounds = [rank * m // self._size for rank in range(self._size + 1)]
        sizes = [last - first for first, last in pairwise(bounds)]
        own = self._exchange_parts([node.detach().split(sizes) for node in nodes], chunks)
        total = own.new_empty(m)
        self._transport.gather(own, total, sizes)
        self._traffic.count(count_bytes(total) - count_bytes(own), count_steps(self._size))
        return total

    def _sum_by_halving(self, parts: dict[int, Tensor]) -> Tensor:
        """Sums this rank's part for 2^L ranks, with the same additions as `_sum_by_doubling`.

        In each step two ranks send each other the half that only the other one's side still needs.

        Args:
            parts: the parts of this rank's sum, by the rank that gets them.
        """
        for level in range(self._size.bit_length() - 1):
            bit = 1 << level
            kept = [rank for rank in parts if rank & bit == self._rank & bit]
            given = [parts[rank] for rank in parts if rank not in kept]
            sent = torch.cat(given) if len(given) > 1 else given[0]
            sizes = [len(parts[rank]) for rank in kept]
            received = self._make_receive_buffer(sent.new_empty(sum(sizes)))
            self._transport.exchange(sent, received, self._rank ^ bit)
            self._traffic.count(count_bytes(sent))
            sums = torch.split(received, sizes)
            parts = {rank: parts[rank] + each for rank, each in zip(kept, sums, strict=True)}
        return parts[self._rank]

    def _exchange_parts(self, parts: Sequence[Sequence[Tensor]], chunks: int) -> Tensor:
        """Sends every rank its part of the sums of this rank's subtrees, and sums its own part."""
        held = [find_aligned_nodes(*share) for share in share_chunks(chunks, self._size)]
        sums = {
            node: part[self._rank].clone()
            for node, part in zip(held[self._rank], parts, strict=True)
        }
        size = len(parts[0][self._rank])
        for partner in list_partners(self._rank, self._size):
            sent = torch.cat([part[partner] for part in parts])
            received = sent.new_empty(len(held[partner]), size)
            self._transport.exchange(sent, received, partner)
            self._traffic.count(count_bytes(sent))
            sums |= zip(held[partner], received, strict=True)
        for parent, _, _ in list_joins(chunks, self._size):
            left, right = (sums.pop(child) for child in parent.children)
            sums[parent] = left.add_(right)
        (total,) = sums.values()
        return total

    def merge(
        self,
        values: dict[Node, Tensor],
        chunks: int,
        merge: Merge,
        find_shape: FindShape,
    ) -> Tensor:
        """Merges for any number of ranks: by messages up the tree, and a broadcast of the root.

        Args:
            values: of this rank's subtrees; those that are merged leave it.
            chunks: of all ranks.
            merge: makes a node's tensor, in new memory, of those of its left and its right child.
            find_shape: the shape of a node's tensor, the same function on all ranks.
        """
        like = next(iter(values.values()))
        schedule = list_joins(chunks, self._size)
        for parent, home, source in schedule:
            left, right = parent.children
            if self._rank == source != home:
                self._transport.send(values[right].contiguous(), home)
            elif self._rank == home:
                if home != source:
                    received = self._make_receive_buffer(like.new_empty(find_shape(right)))
                    self._transport.receive(received, source)
                    values[right] = received
                values[parent] = merge(values.pop(left), values.pop(right))
        root = schedule[-1].parent
        total = values[root] if self._rank == 0 else like.new_empty(find_shape(root))
        depth = count_steps(self._size)
        self._traffic.count(depth * count_bytes(total), depth)
        self._transport.broadcast(total, 0)
        self._traffic.count_broadcast(count_bytes(total), self._size)
        return total

    def _make_receive_buffer(self, like: Tensor) -> Tensor:
        """Returns memory to receive a tensor like this one; all calls use the same."""
        size = like.numel() * like.element_size()
        if size > len(self._received) or like.device != self._received.device:
            self._received = torch.empty(size, dtype=torch.uint8, device=like.device)
        return self._received[:size].view(like.dtype).view(like.shape)


def list_partners(rank: int, size: int) -> list[int]:
    """All other ranks, in an order in which each exchanges messages with the one that does so.

    In turn t the ranks i and t - i (mod P) are partners.
    """
    turns = ((turn - rank) % size for turn in range(size))
    return [partner for partner in turns if partner != rank]
