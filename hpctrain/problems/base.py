"""What every problem is to a run: samples, parameters, a loss to share out, and a monitor.

A problem knows nothing of how it is minimised. The settings of its family make it, an objective is
made of its shares, and a run has its monitor asked how good θ is.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.objective import Objective, Point, SampledLoss
from hpctrain.options import Options
from hpctrain.parallel.communicator import Communicator


class Monitor(Protocol):
    """Measures θ beyond its loss, such as by a reference or a test set; methods are collective.

    Attributes:
        columns: names of what it measures, columns of the history.
    """

    columns: tuple[str, ...]

    def measure(self, theta: Tensor) -> dict[str, float]:
        """A number for each of `columns` at θ (n,), equal on all ranks; NaN where unknown."""

    def evaluate_solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        """What a run file keeps of the final θ (see `RunWriter.finish`); empty for nothing."""

    def describe_progress(self, values: Mapping[str, float]) -> str:
        """The values in a word or two, for the line of an iteration; empty where it has none."""

    def describe_values(self, values: Mapping[str, float]) -> str:
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

    def make_initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,)."""

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> SampledLoss:
        """The loss over the chunks of samples that rank `rank` of `ranks` holds."""

    def describe(self) -> str:
        """What is trained on what, for the first line of a run."""

    def make_monitor(self, communicator: Communicator, chunks: int, threads: int) -> Monitor:
        """What measures θ on all ranks of the communicator; collective."""


class Renewal(Protocol):
    """Changes a problem's loss in the course of its run, such as its points or its weights.

    Attributes:
        state: what the loss depends on beside θ, a dataclass that checkpoints walk.
        columns: of the history, what of it is recorded in every iteration.
    """

    state: Any
    columns: tuple[str, ...]

    def list_values(self) -> dict[str, float]:
        """A number for each of `columns`, of the loss as it is."""

    def is_due(self, iteration: int) -> bool:
        """Whether the loss changes after so many iterations."""

    def renew(self, theta: Tensor, iteration: int) -> None:
        """Changes the loss by what it is at θ (n,), on all ranks alike; collective."""

    def guard(self, iteration: int, before: float, point: Point) -> Tensor | None:
        """θ (n,) to go on from, with nothing learnt, where a renewal led up too far; else None.

        Collective; called after each renewal.

        Args:
            iteration: at which the loss was renewed.
            before: the loss before, at the point's θ.
            point: θ with its loss now.
        """

    def take(self, state: Any) -> None:
        """Makes the loss what it was when a state was written; collective."""

    def describe(self) -> list[str]:
        """What is renewed, by what rule and how often, a line each."""


@runtime_checkable
class WindowedProblem(Protocol):
    """A problem whose solution has several sets of parameters, trained one after the other."""

    def join_parameters(self, theta: Tensor) -> Tensor:
        """All of them, one after the other, θ (n,) being those in training; NaN for later ones."""


@runtime_checkable
class LocatingProblem(Protocol):
    """A problem that knows which of its samples spoil a loss."""

    def locate_not_finite(
        self, theta: Tensor, communicator: Communicator, chunks: int, threads: int
    ) -> str:
        """Says what is not finite at θ (n,), and where; "" where all of it is. Collective."""


@runtime_checkable
class RenewableProblem(Protocol):
    """A problem whose loss may change in the course of its run."""

    def make_renewal(self, objective: Objective, seed: int) -> Renewal | None:
        """What changes the loss of `objective`, which counts the work; None where it is fixed."""


class FamilyOptions(Options, ABC):
    """The settings of a family of problems, which make one of them.

    Attributes:
        name: by which a job file chooses the problem.
        names: the names that lead to this family.
        networks: the kinds of networks that its problems take.
        samples_key: the setting that says how many samples there are.
        evaluates_on_cpu: whether its loss is the CPU's work whatever the device.
    """

    names: ClassVar[tuple[str, ...]]
    networks: ClassVar[tuple[type[Options], ...]]
    samples_key: ClassVar[str] = "samples"
    evaluates_on_cpu: ClassVar[bool] = False

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """What the problem's monitor measures, where it can."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """What a study of the problem is named for: the problem, or the data that it is about."""

    @property
    def windows(self) -> int:
        """How many times a run goes through its stages, for one loss after the other."""
        return 1

    @property
    def uses_torch_threads(self) -> bool:
        """Whether torch's threads do the work, not threads that divide the samples."""
        return False

    @property
    def samples_asked(self) -> int | None:
        """How many samples the job asks for; None for all there are."""
        return getattr(self, self.samples_key)

    @abstractmethod
    def make(self, network: Any, seed: int, precision: str, device: torch.device) -> Problem:
        """The problem, with a network of these settings; the loss is evaluated on `device`.

        Raises:
            InputError: a file that is named cannot be used, or the network does not fit.
        """
