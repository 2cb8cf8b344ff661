"""What every solver is: a state, a step, and a record of each step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch import Tensor

from hpctrain.decomposition import Decomposition
from hpctrain.objective import Counts, Evaluation, Objective
from hpctrain.phases import PhaseTimer


@dataclass(frozen=True)
class Record:
    """What one iteration tells, with equal numbers on all ranks.

    Attributes:
        loss, gradient_norm: at the new θ.
        step_length: of the step that led there; 0 if none was accepted.
        nominal_gradient_evaluations: of this iteration, as the method's paper counts them.
        update_cost: of this iteration, in updates of one full-model quasi-Newton memory.
        stalled: no decrease was found and nothing is left to try.
    """

    loss: float
    gradient_norm: float
    step_length: float
    nominal_gradient_evaluations: float
    update_cost: float
    stalled: bool = False


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
class Setting:
    """All that a solver works with, apart from its options.

    Attributes:
        objective: L on all ranks.
        decomposition: the blocks of a Schwarz method, else one block.
        local: where blocks are solved.
        threads: threads of this rank.
    """

    objective: Objective
    decomposition: Decomposition
    local: LocalWork
    threads: int = 1
    counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", self.objective.counts)

    @property
    def led_blocks(self) -> list[int]:
        """The blocks whose state this rank writes to checkpoints."""
        rank = self.objective.communicator.rank
        return [block for block, group in enumerate(self.local.groups) if group[0] == rank]

    @property
    def timer(self) -> PhaseTimer:
        return self.objective.communicator.timer


State = TypeVar("State", bound=Any)


class Solver(ABC, Generic[State]):
    """One method: `init` makes a state from θ₀, `step` advances it by one outer iteration.

    Everything that evolves is in the state, a dataclass with a field `point`, which checkpoints
    walk (see `hpctrain.state`). A solver prints nothing and opens no files.
    """

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


def evaluate(objective: Objective, theta: Tensor) -> Point:
    """L and ∇L at θ."""
    return point_of(objective.with_gradient(theta))


def point_of(evaluation: Evaluation) -> Point:
    """The point of an evaluation; asks for its gradient, collectively."""
    return Point(evaluation.theta, evaluation.loss, evaluation.gradient)
