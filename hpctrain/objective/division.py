"""How samples are divided among ranks: what all sums over them have in common."""

from dataclasses import dataclass

from torch import Tensor

from hpctrain.objective.counts import Counts
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import share_chunks


@dataclass(frozen=True)
class Division:
    """Samples in chunks, which are the leaves of a fixed summation tree, on some ranks.

    Attributes:
        communicator: the ranks among which the samples are divided.
        samples: |D|, their number.
        chunks: the number of chunks on all ranks, a power of two.
        counts: where the work of evaluations is added.
        fraction: the number of samples divided by that of the full data set. An evaluation counts
            as this part of one.
        threads: of this rank.
    """

    communicator: Communicator
    samples: int
    chunks: int
    counts: Counts
    fraction: float = 1.0
    threads: int = 1

    @property
    def held(self) -> tuple[int, int]:
        """The chunks first, …, last - 1 of this rank, as (first, last)."""
        return share_chunks(self.chunks, self.communicator.size)[self.communicator.rank]

    def sum(self, leaves: Tensor) -> Tensor:
        """Sums values of this rank's chunks (C, …) over all chunks along the tree; collective."""
        return self.communicator.sum_leaves(leaves, self.chunks)

    def count_losses(self, cost: float) -> None:
        """Adds a pass over the samples to the losses.

        Args:
            cost: in multiply-adds for one sample.
        """
        self.counts.loss_work += self.fraction * cost

    def count_gradients(self, cost: float) -> None:
        """Adds a pass over the samples to the gradients; see `count_losses`."""
        self.counts.gradient_work += self.fraction * cost

    def count_products(self, cost: float) -> None:
        """Adds a pass over the samples to the products by matrices; see `count_losses`."""
        self.counts.hvp_work += self.fraction * cost
