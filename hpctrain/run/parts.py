"""What a run is made of, and where it stands: the values that its loop and its observers share."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from hpctrain.job.stop import Asked, list_asked
from hpctrain.kernels import choose_kernels
from hpctrain.kernels.builds import describe_build
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import Device
from hpctrain.problems.base import Monitor, Problem, Renewal, WindowedProblem
from hpctrain.run.stages import Stages
from hpctrain.solvers.base import Record


@dataclass(frozen=True)
class Place:
    """Where a run computes: its ranks, the threads of each, and the device of this one."""

    ranks: Communicator
    threads: int
    device: Device

    @property
    def kernels(self) -> str:
        """Names the kernels that evaluate the loss."""
        chosen = choose_kernels(self.device.place)
        return describe_build() if chosen == "native" else f"{chosen} kernels"


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Attributes:
        title: the problem, its size, its precision and the seed, in a line.
        stop: the criteria that end the run, beside those of its stages.
        composed: how the solver of each stage is composed, in lines.
        untraced: what keeps a residual in torch between two native sweeps, if anything does.
        renewal: what changes the loss in the course of the run; None where it is fixed.
    """

    title: str
    place: Place
    problem: Problem
    objective: Objective
    stages: Stages
    composed: list[list[str]]
    stop: Any
    monitor: Monitor
    untraced: str | None
    renewal: Renewal | None = None

    @property
    def kernels(self) -> str:
        """Names the kernels, and what is evaluated by torch all the same."""
        untraced = f", residual in torch: {self.untraced}" if self.untraced else ""
        return self.place.kernels + untraced

    @cached_property
    def asked(self) -> list[Asked]:
        """The criteria of `stop`, with their values."""
        return list_asked(self.stop)

    def join_parameters(self, theta: Tensor) -> Tensor:
        """Returns all parameters of the solution, perhaps more than those in training, θ (n,)."""
        problem = self.problem
        return problem.join_parameters(theta) if isinstance(problem, WindowedProblem) else theta


@dataclass(frozen=True)
class StageStart:
    """Where a stage of a run began: its number from 1, and what had been spent until then.

    Attributes:
        wall_seconds: as `Clock.total` has them.
        ended: why each stage before it ended.
    """

    number: int = 1
    iteration: int = 0
    epoch: float = 0.0
    gradient_evaluations: float = 0.0
    wall_seconds: float = 0.0
    ended: tuple[str, ...] = ()


@dataclass
class Tally:
    """Where a run stands, beside its solver's state; written to checkpoints with it.

    Attributes:
        halved_loss: the loss of the stage that later ones are compared with; it was at most half of
            the one before it.
        halved_iteration: the iteration that reached it.
    """

    iteration: int = 0
    seconds: float = 0.0
    nominal_gradient_evaluations: float = 0.0
    update_cost: float = 0.0
    stage: StageStart = StageStart()
    halved_loss: float = math.inf
    halved_iteration: int = 0

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Tally":
        stage = content["stage"]
        start = StageStart(**{**stage, "ended": tuple(stage["ended"])})
        return cls(**{**content, "stage": start})

    @property
    def stage_iteration(self) -> int:
        """Iterations since the stage began."""
        return self.iteration - self.stage.iteration

    @property
    def stagnant_iterations(self) -> int:
        """Iterations of the stage since its loss was last halved."""
        return self.iteration - self.halved_iteration

    def begin_stage(self, start: StageStart) -> None:
        """Goes on to the next stage, whose loss is yet to be halved."""
        self.stage, self.halved_loss, self.halved_iteration = start, math.inf, self.iteration

    def add_step(self, record: Record, seconds: float) -> None:
        """Counts an iteration that took so many seconds."""
        self.iteration += 1
        self.seconds += seconds
        self.nominal_gradient_evaluations += record.nominal_gradient_evaluations
        self.update_cost += record.update_cost
        if record.ends_epoch and record.loss <= self.halved_loss / 2:
            self.halved_loss, self.halved_iteration = record.loss, self.iteration

    def count_epochs(self, record: Record) -> float:
        """Counts the passes over the samples up to an iteration with this record."""
        own = self.stage_iteration if record.epoch is None else record.epoch
        return self.stage.epoch + own


class Clock:
    """Wall-clock seconds of a run, which may have been started several times."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.earlier = 0.0

    @property
    def elapsed(self) -> float:
        """Since the run was started or resumed."""
        return time.perf_counter() - self._started

    @property
    def total(self) -> float:
        """Since the run was first started, without the time between its parts."""
        return self.earlier + self.elapsed


@dataclass(frozen=True)
class Moment:
    """A run after an iteration, as observers see it.

    Attributes:
        theta: (n,).
        is_measured: whether the monitor was asked now.
        known: what the monitor said last.
        wall_seconds: since the run was first started, without the time between its parts.
        elapsed_seconds: since it was started or resumed.
    """

    tally: Tally
    record: Record
    theta: Tensor
    is_measured: bool
    known: Mapping[str, float]
    wall_seconds: float
    elapsed_seconds: float
