"""Mini-batches that double where they mislead: a stochastic method ends as an exact one.

After an epoch, with L of all samples and L_b, s_b of its mini-batches,

    (L(θ_before) - L(θ_after)) / Σ_b (L_b(θ_b) - L_b(θ_b + s_b)) < ζ   ⇒   the mini-batches double

Source: Kopaničáková and Krause, SIAM Journal on Scientific Computing 45(3) (2023), arXiv
2107.07572, dynamic sample sizes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from hpctrain.methods.sampling.epochs import batch, count_batches

# A batch that led to too small a decrease of the whole loss is made larger by this factor.
FACTOR = 2


@dataclass
class Epoch:
    """Where the mini-batches stand.

    Attributes:
        batch_size: samples of each at most.
        loss: L of all samples where the epoch began; NaN if it will not be compared.
        number: epochs before this one.
        index: mini-batches of this epoch so far.
        decreases: Σ_b of them.
    """

    batch_size: int
    loss: float
    number: int = 0
    index: int = 0
    decreases: float = 0.0


@dataclass(frozen=True)
class BatchGrowth:
    """The mini-batches of one epoch after the other.

    Attributes:
        samples: |D|.
        seed: of the order of the samples.
        zeta: ζ.
    """

    samples: int
    seed: int
    zeta: float

    def choose(self, epoch: Epoch) -> Tensor | None:
        """The numbers of the next mini-batch's samples, ascending; None for all of them."""
        if epoch.batch_size == self.samples:
            return None
        return batch(self.seed, epoch.number, epoch.index, epoch.batch_size, self.samples)

    def add(self, epoch: Epoch, decrease: float) -> Epoch:
        """The epoch after a mini-batch whose loss fell by `decrease`."""
        return replace(epoch, index=epoch.index + 1, decreases=epoch.decreases + decrease)

    def is_over(self, epoch: Epoch) -> bool:
        """Whether the epoch has had all its mini-batches."""
        return epoch.index == count_batches(self.samples, epoch.batch_size)

    def begin_next(
        self, epoch: Epoch, last_loss: float, evaluate_loss: Callable[[], float]
    ) -> Epoch:
        """The epoch after one that is over, with mini-batches twice as large if they misled.

        Args:
            epoch: the one that is over.
            last_loss: of its last mini-batch, where it ended.
            evaluate_loss: L of all samples there; called where it is not the last one's.
        """
        loss, size = last_loss, epoch.batch_size
        if size < self.samples and not math.isnan(epoch.loss):
            loss = evaluate_loss()
            if not epoch.loss - loss > self.zeta * epoch.decreases:
                size = min(FACTOR * size, self.samples)
        return Epoch(size, loss, epoch.number + 1)
