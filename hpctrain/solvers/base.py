"""What every solver is: a state, a step, and a record of each step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from hpctrain.decomposition.blocks import Excess
from hpctrain.errors import InputError
from hpctrain.methods.multilevel.hierarchy import can_coarsen
from hpctrain.methods.outcomes import Outcome
from hpctrain.objective import Counts, Objective, evaluate_point
from hpctrain.options import Options
from hpctrain.parallel.phases import PhaseTimer
from hpctrain.parallel.rows import find_row_ranges


@dataclass(frozen=True)
class Record:
    """What one iteration tells, with equal numbers on all ranks.

    Attributes:
        loss, gradient_norm: at the new θ.
        step_length: of the step that led there; 0 if none was accepted.
        nominal_gradient_evaluations: of this iteration, as the method's paper counts them.
        update_cost: of this iteration, in updates of three secant pairs of all parameters
            (`quasi_newton.update_cost`); 1 in methods without a quasi-Newton memory of θ.
        outcome: how it ended; a final one says that nothing is left to try.
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
    outcome: Outcome = Outcome.ACCEPTED
    epoch: float | None = None
    ends_epoch: bool = True
    details: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": self.outcome.name}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Record":
        return cls(**{**content, "outcome": Outcome[content["outcome"]]})


class Need(Enum):
    """What a solver asks of the loss, with the reason for which a problem is refused."""

    RESIDUALS = "this problem's loss is no sum of squared residuals"
    SUBSETS = "this problem's loss cannot be taken over some of its samples, with its Hessian"
    SHARES = "this problem's samples cannot be shared out"
    COARSER_NETWORKS = "this problem has no networks of several depths"

    def is_met(self, objective: Objective) -> bool:
        match self:
            case Need.RESIDUALS:
                return objective.has_residuals
            case Need.SUBSETS:
                return objective.has_subsets
            case Need.SHARES:
                return objective.is_divisible
            case Need.COARSER_NETWORKS:
                return can_coarsen(objective)


@dataclass(frozen=True)
class Setting:
    """All that a solver works with, apart from its options.

    Attributes:
        objective: L on all ranks.
        seed: of all that is random in a method, such as its mini-batches.
    """

    objective: Objective
    seed: int = 0

    @property
    def counts(self) -> Counts:
        return self.objective.counts

    @property
    def timer(self) -> PhaseTimer:
        return self.objective.communicator.timer


State = TypeVar("State", bound=Any)


class Solver(ABC, Generic[State]):
    """One method: `init` makes a state from θ₀, `step` advances it by one outer iteration.

    Everything that evolves is in the state, a dataclass with a field `point`, which checkpoints
    walk (see `hpctrain.store.state`). A solver prints nothing and opens no files. What it works on,
    such as blocks of layers or shares of the samples, it makes of the objective.

    Attributes:
        names: by which a job file chooses it.
        Options: its settings in a job file; their `name` is one of `names`.
        needs: what the loss must give.
        columns: of the history, beyond those that every solver has.
    """

    names: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type[Options]]
    needs: ClassVar[frozenset[Need]] = frozenset()
    columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self, setting: Setting, options: Any) -> None:
        """Collective.

        Raises:
            InputError: the loss does not give what the solver needs.
        """
        self.check_needs(setting, options)
        self.setting = setting
        self.options = options

    @classmethod
    def check_needs(cls, setting: Setting, options: Any) -> None:
        """Raises an InputError where the loss does not give what the solver needs."""
        for need in Need:
            if need in cls.needs and not need.is_met(setting.objective):
                raise InputError(f'solver.name = "{options.name}" is not allowed: {need.value}')

    @classmethod
    def find_excess(cls, options: Any, layers: int) -> Excess | None:
        """The setting that asks for more than a network of so many layers has; None if none does.

        A method with blocks of layers overrides this: a job is then refused before its network is
        made.
        """
        return None

    @classmethod
    def takes_batches(cls, options: Any) -> bool:
        """Whether an iteration works on some of the samples, so that its record has an epoch."""
        return False

    @property
    def led(self) -> list[int]:
        """The parts of a method with blocks or shares whose state this rank writes."""
        return []

    def find_rows(self, total: int, part: int | None) -> tuple[int, int]:
        """Which rows this rank holds of a matrix in the state, as it divides them.

        Args:
            total: the rows of the whole matrix.
            part: the block or share whose state it is in; None for a matrix of the method itself.

        Returns:
            The first row, and one past the last.
        """
        ranks = self.setting.objective.communicator
        return find_row_ranges(total, ranks.size)[ranks.rank]

    @abstractmethod
    def init(self, theta: Tensor) -> State:
        """The state at θ₀ (n,); collective."""

    @abstractmethod
    def step(self, state: State) -> tuple[State, Record]:
        """One iteration; collective, with equal branches on all ranks."""

    def renew(self, state: State) -> State:
        """The state where the loss has changed: its memory, at its point evaluated again.

        Collective. A method whose state has more of the old loss than its point overrides this.
        """
        with self.setting.timer.phase("global"):
            return replace(state, point=evaluate_point(self.setting.objective, state.point.theta))

    def go_back(self, state: State, theta: Tensor) -> State:
        """The state at an earlier θ (n,), from which a step with what was learnt would lead astray.

        Collective. By default it is kept: first-order methods take bounded steps whatever they
        remember, and damping and radius answer to each trial. Methods that search along H ∇L
        override this.
        """
        return self.renew(replace(state, point=replace(state.point, theta=theta)))

    @abstractmethod
    def describe(self) -> list[str]:
        """How the method is composed, a line each part."""
