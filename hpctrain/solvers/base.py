"""What every solver is: a state, a step, and a record of each step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from hpctrain.decomposition.blocks import Decomposition
from hpctrain.networks.transfers import Transfer
from hpctrain.objective.evaluation import Counts, Evaluation, Objective, Smooth
from hpctrain.parallel.phases import PhaseTimer


@dataclass(frozen=True)
class Record:
    """What one iteration tells, with equal numbers on all ranks.

    Attributes:
        loss, gradient_norm: at the new θ.
        step_length: of the step that led there; 0 if none was accepted.
        nominal_gradient_evaluations: of this iteration, as the method's paper counts them.
        update_cost: of this iteration, in updates of one full-model quasi-Newton memory.
        stalled: no decrease was found and nothing is left to try.
        epoch: passes over the samples so far; None where every iteration takes all of them.
        ends_epoch: whether all samples have been seen since this was true last. The gradient may be
            that of a mini-batch: then all samples are asked before it ends a run as too small.
        details: a number for each of the solver's `columns`.
    """

    loss: float
    gradient_norm: float
    step_length: float
    nominal_gradient_evaluations: float
    update_cost: float
    stalled: bool = False
    epoch: float | None = None
    ends_epoch: bool = True
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Point:
    """θ (n,) with the loss and the gradient (n,) there."""

    theta: Tensor
    loss: float
    gradient: Tensor


@dataclass(frozen=True)
class LocalWork:
    """Where a Schwarz method solves its blocks.

    Attributes:
        objective: L on the ranks that share this rank's blocks.
        blocks: indices of the blocks this rank works on, in order.
        groups: for each block of the decomposition the ranks that work on it.
    """

    objective: Objective
    blocks: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Subdomain:
    """A share of the samples that a method decomposes the loss into.

    Attributes:
        samples: their numbers in the whole set, ascending.
        objective: the mean loss over them on the ranks that share this rank's subdomains, with
            counts of its own.
    """

    samples: Tensor
    objective: Objective


@dataclass(frozen=True)
class Subdomains:
    """Where a method solves its shares of the samples.

    Attributes:
        own: by index, the subdomains that this rank works on.
        groups: for each subdomain the ranks that work on it.
    """

    own: dict[int, Subdomain]
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CoarseNetwork:
    """The loss of a smaller network, and the transfer to the next larger one.

    Attributes:
        objective: over the same samples on the same ranks, its work in units of the whole network.
        transfer: between its parameters and those of the next finer level.
    """

    objective: Objective
    transfer: Transfer


@dataclass(frozen=True)
class Setting:
    """All that a solver works with, apart from its options.

    Attributes:
        objective: L on all ranks.
        decomposition: the blocks of a Schwarz method, else one block.
        local: where blocks are solved.
        threads: threads of this rank.
        seed: of all that is random in a method, such as its mini-batches.
        subdomains: where a method that decomposes the samples solves its shares of them.
        coarser: smaller networks of a method with several levels, the next to the finest first.
    """

    objective: Objective
    decomposition: Decomposition
    local: LocalWork
    threads: int = 1
    seed: int = 0
    subdomains: Subdomains | None = None
    coarser: tuple[CoarseNetwork, ...] = ()
    counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", self.objective.counts)

    @property
    def led_blocks(self) -> list[int]:
        """The blocks, or shares of the samples, whose state this rank writes to checkpoints."""
        rank = self.objective.communicator.rank
        groups = self.local.groups if self.subdomains is None else self.subdomains.groups
        return [block for block, group in enumerate(groups) if group[0] == rank]

    @property
    def timer(self) -> PhaseTimer:
        return self.objective.communicator.timer


State = TypeVar("State", bound=Any)


class Solver(ABC, Generic[State]):
    """One method: `init` makes a state from θ₀, `step` advances it by one outer iteration.

    Everything that evolves is in the state, a dataclass with a field `point`, which checkpoints
    walk (see `hpctrain.store.state`). A solver prints nothing and opens no files.

    Attributes:
        needs_residuals: whether the loss must be a sum of squared residuals.
        columns: of the history, beyond those that every solver has.
    """

    needs_residuals: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self, setting: Setting, options: Any) -> None:
        self.setting = setting
        self.options = options

    @abstractmethod
    def init(self, theta: Tensor) -> State:
        """The state at θ₀ (n,); collective."""

    @abstractmethod
    def step(self, state: State) -> tuple[State, Record]:
        """One iteration; collective, with equal branches on all ranks."""

    @abstractmethod
    def describe(self) -> list[str]:
        """How the method is composed, a line each part."""


def evaluate(objective: Smooth, theta: Tensor) -> Point:
    """L and ∇L at θ."""
    return point_of(objective.with_gradient(theta))


def point_of(evaluation: Evaluation) -> Point:
    """The point of an evaluation; asks for its gradient, collectively."""
    return Point(evaluation.theta, evaluation.loss, evaluation.gradient)
