"""What an objective asks of a problem: to make the loss over any rank's share of the samples."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.objective.losses import SampledLoss


class LossSource(Protocol):
    """A problem, which makes each rank's share of its loss.

    Attributes:
        samples: |D|, the number of samples.
    """

    samples: int

    @property
    def layers(self) -> list[LayerRange]:
        """The layers of the network, from input to output: their ranges in θ and their costs."""

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> SampledLoss:
        """Makes the loss over the chunks that one rank holds.

        Args:
            chunks: into how many chunks the samples of all ranks are cut.
            rank: the rank, of `ranks`.
            ranks: the number of ranks among which the chunks are divided.
            threads: the threads that evaluate the loss.
        """


@runtime_checkable
class DivisibleSource(LossSource, Protocol):
    """A problem whose loss can be taken over some of its samples, divided among ranks anew."""

    def share_samples(
        self, samples: Tensor, chunks: int, rank: int, ranks: int, threads: int
    ) -> SampledLoss:
        """Makes one rank's share of the loss over some samples.

        Args:
            samples: their numbers in ascending order; they are cut into `chunks` chunks.
            chunks, rank, ranks, threads: as for `share`.
        """


@runtime_checkable
class BoundSource(LossSource, Protocol):
    """A problem whose samples stay on the ranks that brought them: no others can evaluate its loss.

    Attributes:
        own_samples: the number of this rank's samples.
    """

    own_samples: int
