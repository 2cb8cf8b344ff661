"""The stages of a run: its solvers one after the other, each made when its stage begins."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpctrain.errors import InputError
from hpctrain.job.own_solver import find_own_solver
from hpctrain.job.stages import name_stages
from hpctrain.job.stop import Asked, list_asked
from hpctrain.objective import Objective
from hpctrain.solvers import SOLVERS, OwnSolverOptions, Setting, Solver


@dataclass(frozen=True)
class Stage:
    """One of a run's solvers, not yet made.

    Attributes:
        number: from 1.
        key: what messages call its table in the job, "solver" or "solver.2".
        method: the class of the solver.
        options: as `method` takes them.
        name: of the solver in the job.
        stop: when the stage ends, beside what ends the run; None for nothing.
        window: from 1, of those that a run goes through with all its solvers.
        windows: how many.
    """

    number: int
    key: str
    method: type[Solver[Any]]
    options: Any
    name: str
    stop: Any
    window: int = 1
    windows: int = 1

    @property
    def title(self) -> str:
        """The name, with the window if there are several."""
        return self.name if self.windows == 1 else f"{self.name}, window {self.window}"

    @cached_property
    def asked(self) -> list[Asked]:
        """The criteria of `stop`, with their values."""
        return list_asked(self.stop)

    def describe_end(self) -> str:
        """Says when the stage ends."""
        asked = [f"{self.key}.stop.{each.key} = {value:g}" for each, value in self.asked]
        return " or ".join(asked) or "its solver has nothing left to try"


class Stages(Sequence[Stage]):
    """The stages of a run, window after window, with the solver of the one that was made last.

    Args:
        stages: in order.
        objective: what the solvers minimise.
        seed: of all that is random in them.
    """

    def __init__(self, stages: Sequence[Stage], objective: Objective, seed: int) -> None:
        self._stages = tuple(stages)
        self._setting = Setting(objective, seed)
        self._made: tuple[int, Solver[Any]] | None = None

    def __len__(self) -> int:
        return len(self._stages)

    def __getitem__(self, index: Any) -> Any:
        return self._stages[index]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the history that solvers of the stages add to those that all have."""
        return tuple(dict.fromkeys(name for each in self for name in each.method.columns))

    def make_solver(self, number: int) -> Solver[Any]:
        """Makes the solver of a stage, unless it was made last; collective.

        Raises:
            InputError: the loss does not give what the solver needs.
        """
        if self._made is None or self._made[0] != number:
            self._made = None  # what the last one holds is free before the next one is made
            stage = self[number - 1]
            made = self._explain(stage, lambda: stage.method(self._setting, stage.options))
            self._made = number, made
        return self._made[1]

    def try_all(self) -> list[list[str]]:
        """Makes each solver once, so that a wrong one is refused before the run.

        Returns how each is composed, in lines.

        Collective; raises as `make_solver`.
        """
        first = [stage for stage in self if stage.window == 1]
        lines = [self.make_solver(stage.number).describe() for stage in reversed(first)]
        return lines[::-1]

    def warn_of_order(self, max_iterations: int) -> Iterator[str]:
        """Yields a caution if a stage may never begin, since the run ends before.

        Args:
            max_iterations: of the whole run.
        """
        taken = 0
        for stage in self:
            if taken >= max_iterations:
                yield (
                    f"stage {stage.number} ({stage.name}) begins only if an earlier one ends early:"
                    f" they may take {taken} iterations, stop.max_iterations = {max_iterations}"
                )
                return
            taken += (stage.stop and stage.stop.max_iterations) or 0

    def _explain(self, stage: Stage, make: Callable[[], Solver[Any]]) -> Solver[Any]:
        """Makes a solver; an error says which of several stages it is of."""
        try:
            return make()
        except InputError as error:
            if len(self) == 1:
                raise
            raise InputError(f"stage {stage.number}: {error}") from error


def find_stages(tables: Sequence[Any], windows: int, objective: Objective, seed: int) -> Stages:
    """Finds the stages of a job, whose solvers minimise this objective; collective.

    Args:
        tables: the job's `solver`, the settings of each.
        windows: how many windows of time the run goes through with all its solvers.
        objective: what they minimise.
        seed: determines all that is random in them.

    Raises:
        InputError: a solver of the user's own has no such class, fails, or does not take its
            settings.
    """
    found = objective.communicator.run_on_all(lambda: list(_find(tables, windows)))
    return Stages(found, objective, seed)


def _find(tables: Sequence[Any], windows: int) -> Iterator[Stage]:
    solvers = [*name_stages(tables)]
    for number, (key, options) in enumerate(solvers * windows, start=1):
        if isinstance(options, OwnSolverOptions):
            own = find_own_solver(options, key)
            method, taken = own.solver, own.options
        else:
            method, taken = SOLVERS[options.name], options
        window = 1 + (number - 1) // len(solvers)
        yield Stage(number, key, method, taken, options.name, options.stop, window, windows)
