"""What a problem is to its objective: losses on any ranks, of any samples."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.objective.losses import SampledLoss


class LossSource(Protocol):
    """Gives every rank its share of a loss.

    Attributes:
        samples: |D|.
    """

    samples: int

    @property
    def layers(self) -> list[LayerRange]:
        """The parts of θ, from input to output, of which decompositions make blocks."""

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> SampledLoss:
        """The loss over the chunks of samples that rank `rank` of `ranks` holds."""


@runtime_checkable
class DivisibleSource(LossSource, Protocol):
    """A source whose loss may be taken over some of its samples, cut into chunks of their own."""

    def share_samples(
        self, samples: Tensor, chunks: int, rank: int, ranks: int, threads: int
    ) -> SampledLoss:
        """As `share`, of `samples`, their numbers in ascending order."""
