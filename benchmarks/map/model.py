"""Projects what a run on one rank would take on P ranks, without running it on them.

The work of a run is counted in gradients of all samples: W = gradients + products with JᵀJ + a
third of the losses alone. Two short runs on one rank, with all N points and with few, give the
seconds that a unit of work takes in each phase (local, global), and what of them is divided among
ranks that share the points, d / P, and what every rank repeats, r. Products by dense inverse
Hessians grow in the course of a run, and are counted by themselves: the k-th reads

    h(n, k) = min(4 · 64 ⌈k / 64⌉, 2 n) n numbers, η seconds each,

first as factors in panels of 64 updates, read twice, later as a matrix. With K iterations,

    undecomposed      C(P) = W (d / P + r) + η Σ_k h(n, k) / P
    MSPQN             C(P) = W (d / P + r) + η Σ_s Σ_k h(n_s, k)
    ASPQN             C(P) = max over ranks of Σ_s [W_s (d / P_s + r / S) + η Σ_k h(n_s, k)]
                             + W (d / P + r) + η Σ_k h(n, k) / P,   local and global phase
    Krylov-Schwarz    C(P) = W (d / P + r / min(P, S)).

A rank has whole blocks where P ≤ S, P_s = 1; beyond that P_s ranks share the points of block s,
as `hpctrain.parallel.grid` assigns them. W_s is the part of W that block s costs, whose gradient
sweeps the network from its first layer on. Every rank of a block has all of its inverse Hessian,
and so does every rank of MSPQN. A collective call of P ranks is ⌈log₂ P⌉ messages
(`study.projection`):

    T(P) = C(P) + α ⌈log₂ P⌉ M₂ + (⌈log₂ P⌉ (B₂ - G / 2) + (1 - 1 / P) G) / β,

with M₂ messages and B₂ bytes as counted on two ranks, G bytes of them gathered by all, latency α
and bandwidth β. For P > S a block's ranks also sum each of its gradients: W_s / (the block's part
of a gradient) sums of n_s + 1 numbers.

What is left out: caches that are shared, or hold a smaller share better; P > 64 needs
`parallel.chunks` = P, which changes bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from benchmarks.map.methods import POINTS, Method, list_layers
from hpctrain.decomposition.blocks import Block
from hpctrain.parallel.grid import assign_blocks
from hpctrain.study.projection import Network

BYTES = 8
PANEL = 64


@dataclass(frozen=True)
class Parts:
    """Seconds of a unit of work: what ranks divide by their points, and what each repeats."""

    divided: float
    repeated: float

    @classmethod
    def split(cls, whole: float, share: float, ratio: float) -> "Parts":
        """Of the seconds with all points, and with a `ratio`-th of them."""
        divided = min(max(whole - share, 0.0) * ratio / (ratio - 1), whole)
        return cls(divided, whole - divided)


@dataclass(frozen=True)
class Work:
    """What a run does up to a point: iterations K, and W in gradients."""

    iterations: int
    gradients: float


@dataclass(frozen=True)
class Shares:
    """The seconds of a projected run: they add up to its time."""

    divided: float
    repeated: float
    products: float
    messages: float

    @property
    def seconds(self) -> float:
        """T(P)."""
        return self.computed + self.messages

    @property
    def computed(self) -> float:
        """C(P)."""
        return self.divided + self.repeated + self.products


@dataclass(frozen=True)
class Case:
    """A method on a network, as it was measured.

    Attributes:
        method, width: which.
        local, globally: seconds of a unit of work in the two phases.
        number: η, seconds to read a number of an inverse Hessian.
        messages, sent: of a unit of work, on two ranks.
        gathered: bytes of it that are gathered, of a unit of work.
    """

    method: Method
    width: int
    local: Parts
    globally: Parts
    number: float
    messages: float
    sent: float
    gathered: float

    def project(self, work: Work, ranks: int, network: Network) -> Shares:
        """The seconds of so much work on P ranks."""
        W, steps = work.gradients, work.iterations * self.method.global_steps
        divided, repeated, products = self._project_local(work, ranks)
        read = count_read(self._size, steps)
        return Shares(
            divided=divided + W * self.globally.divided / ranks,
            repeated=repeated + W * self.globally.repeated / self._count_preconditioners(ranks),
            products=products + self.number * read / ranks,
            messages=self._send(W, ranks, network),
        )

    def _project_local(self, work: Work, ranks: int) -> tuple[float, float, float]:
        """Seconds of the local phases on the slowest rank: divided, repeated, products."""
        if self.method.local_steps:
            return max((self._sum_blocks(work, its) for its in self._list_groups(ranks)), key=sum)
        W, at_once = work.gradients, self._count_preconditioners(ranks)
        return W * self.local.divided / ranks, W * self.local.repeated / at_once, 0.0

    def _count_preconditioners(self, ranks: int) -> int:
        """Of blocks without steps of their own, how many work at once; 1 where there are none."""
        return 1 if self.method.local_steps else min(ranks, self.method.blocks)

    @property
    def _size(self) -> int:
        return list_layers(self.width)[-1].stop

    @property
    def _blocks(self) -> Sequence[Block]:
        return self.method.cut(self.width).blocks

    @property
    def _costs(self) -> list[float]:
        """Of each block's gradient, in gradients of the network."""
        layers = [layer.cost for layer in list_layers(self.width)]
        return [sum(layers[block.first :]) / sum(layers) for block in self._blocks]

    def _list_groups(self, ranks: int) -> list[tuple[tuple[int, int], ...]]:
        """What ranks have: some blocks, each with the number of ranks that share it."""
        if not self.method.is_additive:
            return [tuple((s, ranks) for s in range(self.method.blocks))]
        found = assign_blocks(self._costs, ranks)
        return [tuple((s, len(found.groups[s])) for s in its) for its in {*found.blocks}]

    def _sum_blocks(
        self, work: Work, blocks: Sequence[tuple[int, int]]
    ) -> tuple[float, float, float]:
        """Seconds of a rank's local phases: divided, repeated, products."""
        W, costs, steps = work.gradients, self._costs, work.iterations * self.method.local_steps
        divided = W * self.local.divided * sum(costs[s] / P for s, P in blocks) / sum(costs)
        repeated = W * self.local.repeated * len(blocks) / self.method.blocks
        read = sum(count_read(self._blocks[s].size, steps) for s, _ in blocks)
        return divided, repeated, self.number * read

    def _send(self, W: float, ranks: int, network: Network) -> float:
        """Seconds of messages."""
        depth = count_depth(ranks)
        messages = W * self.messages * depth
        summed = max(self.sent - self.gathered / 2, 0.0)
        sent = W * (summed * depth + self.gathered * (1 - 1 / ranks))
        if self.method.is_additive and self.method.local_steps and ranks > self.method.blocks:
            sharing = max(P for blocks in self._list_groups(ranks) for _, P in blocks)
            calls = W / sum(self._costs) * count_depth(sharing)
            messages += calls
            sent += calls * BYTES * (1 + max(block.size for block in self._blocks))
        return network.predict_seconds(messages, sent)

    def measure_memory(self, work: Work, ranks: int) -> float:
        """Bytes of the method's state on the rank that has most of it; θ, g, p and v with it."""
        n, method = self._size, self.method
        vectors = (4 + 2 * method.pairs) * n
        rows = count_kept(n, work.iterations * method.global_steps) / ranks
        if not method.local_steps:
            whole = method.gathered * n if method.blocks > 1 else 0
            blocks = whole / min(ranks, method.blocks)
            return BYTES * (vectors + rows + whole + blocks)
        steps = work.iterations * method.local_steps
        kept = [count_kept(block.size, steps) for block in self._blocks]
        most = max(sum(kept[s] for s, _ in blocks) for blocks in self._list_groups(ranks))
        return BYTES * (vectors + rows + most)


@dataclass(frozen=True)
class Timed:
    """CPU seconds of a short run's local and global phases, and its work."""

    phases: tuple[float, float]
    work: Work


def make_case(
    method: Method,
    width: int,
    whole: Timed,
    share: Timed,
    number: float,
    traffic: tuple[float, float],
) -> Case:
    """A case of two short runs.

    Args:
        method, width: of all of them.
        whole, share: as timed on one rank with all points, and with `method.share` of them.
        number: η.
        traffic: messages and bytes on two ranks in the work of `whole`.
    """
    ratio, W, n = POINTS / method.share, whole.work.gradients, list_layers(width)[-1].stop
    rates = [_subtract_products(method, width, each, number) for each in (whole, share)]
    local, globally = (
        Parts.split(all_points, few, ratio) for all_points, few in zip(*rates, strict=True)
    )
    gathered = BYTES * n * method.gathered * whole.work.iterations / W
    messages, sent = (each / W for each in traffic)
    return Case(method, width, local, globally, number, messages, sent, gathered)


def _subtract_products(
    method: Method, width: int, timed: Timed, number: float
) -> tuple[float, float]:
    """Seconds of a unit of work in the local and the global phases, but for products."""
    local = sum(
        count_read(block.size, timed.work.iterations * method.local_steps)
        for block in method.cut(width).blocks
    )
    n = list_layers(width)[-1].stop
    read = local, count_read(n, timed.work.iterations * method.global_steps)
    left = [max(t - number * each, 0.0) for t, each in zip(timed.phases, read, strict=True)]
    return left[0] / timed.work.gradients, left[1] / timed.work.gradients


def count_read(size: int, updates: int) -> float:
    """Σ h(n, k), the numbers that so many products by an inverse Hessian read."""
    panels, dense = range(ceil(updates / PANEL)), 2 * size
    columns = (min(4 * PANEL * (p + 1), dense) * min(PANEL, updates - PANEL * p) for p in panels)
    return float(size * sum(columns))


def count_kept(size: int, updates: int) -> float:
    """The numbers of an inverse Hessian after so many updates."""
    return float(min(2 * PANEL * ceil(updates / PANEL), size) * size)


def count_depth(ranks: int) -> int:
    """⌈log₂ P⌉."""
    return (ranks - 1).bit_length()
