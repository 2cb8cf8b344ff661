"""What every problem is to a run: samples, parameters, a loss to share out, and a monitor.

A problem knows nothing of how it is minimised. `hpctrain.run.assemble` makes one out of a job, an
objective is made of its shares, and `hpctrain.run.loop` has its monitor asked how good θ is.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.objective import SampledLoss
from hpctrain.parallel.communicator import Communicator


class Monitor(Protocol):
    """Measures θ beyond its loss, such as by a reference or a test set; methods are collective.

    Attributes:
        columns: names of what it measures, columns of the history.
    """

    columns: tuple[str, ...]

    def values(self, theta: Tensor) -> dict[str, float]:
        """A number for each of `columns` at θ (n,), equal on all ranks; NaN where unknown."""

    def solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        """What a run file keeps of the final θ (see `RunWriter.finish`); empty for nothing."""

    def progress(self, values: Mapping[str, float]) -> str:
        """The values in a word or two, for the line of an iteration; empty where it has none."""

    def summary(self, values: Mapping[str, float]) -> str:
        """The values in words, for the end of a run; empty where it has none."""


class Problem(Protocol):
    """A finite sum over samples as a function of θ (n,), split among ranks.

    Attributes:
        samples: |D|.
        parameters: n.
    """

    samples: int
    parameters: int

    @property
    def cautions(self) -> tuple[str, ...]:
        """Warnings of what is allowed, but hardly meant, a line each; asked for on one rank."""

    @property
    def layers(self) -> list[LayerRange]:
        """The parts of θ, from input to output, of which decompositions make blocks."""

    def initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,)."""

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> SampledLoss:
        """The loss over the chunks of samples that rank `rank` of `ranks` holds."""

    def describe(self) -> str:
        """What is trained on what, for the first line of a run."""

    def monitor(self, communicator: Communicator, chunks: int, threads: int) -> Monitor:
        """What measures θ on all ranks of the communicator; collective."""
