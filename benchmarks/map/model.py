"""Projects what a run on one rank would take on P ranks, without running it on them.

The work of a run is counted in gradients of all samples: W = gradients + products with JᵀJ + a
third of the losses alone. Two short runs on one rank, with all N points and with few, give the
seconds that a unit of work takes in each phase (local, global), and what of them is divided among
ranks that share the points, d / P, and what every rank repeats, r. Products by dense inverse
Hessians, with the updates that they take up, grow in the course of a run, and are counted by
themselves: the k-th reads

    h(n, k) = min(4 · 64 ⌈k / 64⌉, 2 n) n numbers, η seconds each,

first as factors in panels of 64 updates, read twice, later as a matrix. With K iterations,

    undecomposed      C(P) = W (d / P + r) + η Σ_k h(n, k) / P
    MSPQN             C(P) = W (d / P + r) + η Σ_s Σ_k h(n_s, k) / R_s
    ASPQN             C(P) = max over ranks of Σ_s [W_s (d / P_s + r / S) + η Σ_k h(n_s, k) / R_s]
                             + W (d / P + r) + η Σ_k h(n, k) / P,   local and global phase
    Krylov-Schwarz    C(P) = W (d / P + r / min(P, S)).

A rank has whole blocks where P ≤ S, P_s = 1; beyond that P_s ranks share the points of block s,
as `hpctrain.parallel.grid` assigns them. W_s is the part of W that block s costs, whose gradient
sweeps the network from its first layer on. R_s ranks divide the rows of a block's inverse Hessian:
all that share the block, or one where rows are few. A method that solves blocks makes one product
more than updates in each of its solves. A collective call of P ranks is ⌈log₂ P⌉ messages
(`study.projection`):

    T(P) = C(P) + α ⌈log₂ P⌉ (M₂ + X) + (F (B₂ - G / 2) + (1 - 1 / P) G) / β,

with M₂ messages and B₂ bytes as counted on two ranks, G bytes of them gathered by all, latency α
and bandwidth β. F = ⌈log₂ P⌉ and X = 0 where sums are short; long ones are of parts, as
`hpctrain.parallel.tree_messages` decides: F = 2 (1 - 1 / P), and X is the number of sums. For P > S
a block's ranks also sum each of its gradients, W_s / (the block's part of a gradient) sums of
n_s + 1 numbers, and sum and gather each product's.

What is left out: caches that are shared, or hold a smaller share better; P > 64 needs
`parallel.chunks` = P, which changes bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from benchmarks.map.methods import POINTS, Method, count_row_ranks, list_layers
from hpctrain.decomposition.blocks import Block
from hpctrain.methods.quasi_newton.factors import PANEL
from hpctrain.parallel.grid import assign_blocks
from hpctrain.parallel.rows import PARTS
from hpctrain.parallel.traffic import count_steps
from hpctrain.parallel.tree_messages import count_sum
from hpctrain.study.projection import Network

BYTES = 8


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
        W = work.gradients
        divided, repeated, products = self._project_local(work, ranks)
        read = self.method.count_read_globally(self._size, work.iterations)
        return Shares(
            divided=divided + W * self.globally.divided / ranks,
            repeated=repeated + W * self.globally.repeated / self._count_preconditioners(ranks),
            products=products + self.number * read / ranks,
            messages=self._send(work, ranks, network),
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
        W, costs = work.gradients, self._costs
        divided = W * self.local.divided * sum(costs[s] / P for s, P in blocks) / sum(costs)
        repeated = W * self.local.repeated * len(blocks) / self.method.blocks
        sizes = [(self._blocks[s].size, P) for s, P in blocks]
        read = sum(
            self.method.count_read_locally(size, work.iterations) / count_row_ranks(size, P)
            for size, P in sizes
        )
        return divided, repeated, self.number * read

    def _send(self, work: Work, ranks: int, network: Network) -> float:
        """Seconds of messages."""
        W, summed = work.gradients, work.gradients * max(self.sent - self.gathered / 2, 0.0)
        size, depth = self._count_summed(), count_steps(ranks)
        in_sum, bytes_of_sum = count_sum(size, max(PARTS, ranks), ranks)
        messages = W * self.messages * depth + summed / size * (in_sum - depth)
        sent = summed / size * bytes_of_sum + W * self.gathered * (1 - 1 / ranks)
        if self.method.is_additive and self.method.local_steps and ranks > self.method.blocks:
            for more in self._share_blocks(work, ranks):
                messages, sent = messages + more[0], sent + more[1]
        return network.predict_seconds(messages, sent)

    def _count_summed(self) -> int:
        """Bytes of a gradient that all ranks sum: of MSPQN a block's, on average."""
        shared = self.method.local_steps and not self.method.is_additive
        return BYTES * self._size // (self.method.blocks if shared else 1)

    def _share_blocks(self, work: Work, ranks: int) -> Iterator[tuple[float, float]]:
        """Messages and bytes within the largest group of ranks that share a block.

        Of its gradients, and of its products with an inverse Hessian by rows.
        """
        sharing = max(P for blocks in self._list_groups(ranks) for _, P in blocks)
        size = max(block.size for block in self._blocks)
        gradients = work.gradients / sum(self._costs)
        messages, sent = count_sum(BYTES * (1 + size), max(PARTS, 1 << count_steps(ranks)), sharing)
        yield gradients * messages, gradients * sent
        if count_row_ranks(size, sharing) > 1:
            products = work.iterations * (self.method.local_steps + 1)
            in_all = products * 2 * count_steps(sharing)
            yield in_all, products * BYTES * size * (1 - 1 / sharing)

    def measure_memory(self, work: Work, ranks: int) -> float:
        """Bytes of the method's state on the rank that has most of it; θ, g, p and v with it."""
        n, method = self._size, self.method
        vectors = (4 + 2 * method.pairs) * n
        rows = count_kept(n, work.iterations * method.global_steps) / ranks
        if not method.local_steps:
            whole = method.gathered * n if method.blocks > 1 else 0
            blocks = whole / min(ranks, method.blocks)
            return BYTES * (vectors + rows + whole + blocks)
        steps, sizes = work.iterations * method.local_steps, [b.size for b in self._blocks]
        most = max(
            sum(count_kept(sizes[s], steps) / count_row_ranks(sizes[s], P) for s, P in blocks)
            for blocks in self._list_groups(ranks)
        )
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
    ratio, W = POINTS / method.share, whole.work.gradients
    rates = [_subtract_products(method, width, each, number) for each in (whole, share)]
    local, globally = (
        Parts.split(all_points, few, ratio) for all_points, few in zip(*rates, strict=True)
    )
    gathered = BYTES * method.count_gathered(width) * whole.work.iterations / W
    messages, sent = (each / W for each in traffic)
    return Case(method, width, local, globally, number, messages, sent, gathered)


def _subtract_products(
    method: Method, width: int, timed: Timed, number: float
) -> tuple[float, float]:
    """Seconds of a unit of work in the local and the global phases, but for products."""
    local = sum(
        method.count_read_locally(block.size, timed.work.iterations)
        for block in method.cut(width).blocks
    )
    n = list_layers(width)[-1].stop
    read = local, method.count_read_globally(n, timed.work.iterations)
    left = [max(t - number * each, 0.0) for t, each in zip(timed.phases, read, strict=True)]
    return left[0] / timed.work.gradients, left[1] / timed.work.gradients


def count_kept(size: int, updates: int) -> float:
    """The numbers of an inverse Hessian after so many updates."""
    return float(min(2 * PANEL * ceil(updates / PANEL), size) * size)
