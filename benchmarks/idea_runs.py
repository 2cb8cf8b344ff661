"""Training that goes through several solvers and networks, with its work and CPU time recorded."""

import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.idea_methods import KroneckerScaled
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.run.pieces import make_objective, make_problem, make_solver
from hpctrain.solvers.base import Setting, Solver

POINTS, DEPTH, WIDTH = 2500, 4, 20
FOREVER = 10**9
# Iterations between two errors, which cost as much as some gradients.
EVERY = 10


@dataclass
class Row:
    """What was spent up to an iteration, and what was reached; an error of infinity is unknown."""

    stage: int
    seconds: float
    gradients: float
    losses: float
    loss: float
    error: float


@dataclass
class Trace:
    """A run: a row for each iteration of all of its stages."""

    label: str
    equation: str
    seed: int
    parameters: int = 0
    rows: list[Row] = field(default_factory=list)

    @property
    def last_stage(self) -> list[Row]:
        return [row for row in self.rows if row.stage == self.rows[-1].stage]

    def find_loss_after(self, iterations: int) -> float:
        """The loss after so many iterations of the last stage, or at its end."""
        own = self.last_stage
        return own[min(iterations, len(own)) - 1].loss

    def find_seconds(self, loss: float) -> float:
        """CPU seconds until the loss was no greater; infinite where it always was."""
        return next((row.seconds for row in self.rows if row.loss <= loss), float("inf"))


class Training:
    """θ of an equation in training, with its problem and objective.

    Attributes:
        problem, objective, theta: those of now.
        trace: what has happened.
    """

    def __init__(self, label: str, equation: str, seed: int) -> None:
        self._job = tomllib.loads(Path(f"jobs/library/{equation}.toml").read_text())
        self.seed, self._seconds = seed, 0.0
        self._stage, self.trace = 0, Trace(label, equation, seed)
        self._last: tuple[PinnProblem, type[Solver[Any]]] | None = None
        self._lift: Callable[[Tensor], Tensor] | None = None
        self._spent_gradients = self._spent_losses = 0.0
        self.use(self.make_problem())

    def make_problem(self, **settings: Any) -> PinnProblem:
        """The equation's problem with other settings than usual, such as network__width."""
        usual = {"problem.points": POINTS, "network.depth": DEPTH, "network.width": WIDTH}
        given = {key.replace("__", "."): value for key, value in settings.items()}
        problem = make_problem(self._job, set={**usual, "seed": self.seed, **given})
        assert isinstance(problem, PinnProblem)
        return problem

    def use(self, problem: PinnProblem, theta: Tensor | None = None, scale: float = 1.0) -> None:
        """Goes on with another problem, not timed.

        Args:
            theta: from where (n,); by default from its own start.
            scale: by which its losses are multiplied in the trace.
        """
        self._scale = scale
        if self.trace.rows:
            self._spent_gradients = self.trace.rows[-1].gradients
            self._spent_losses = self.trace.rows[-1].losses
        self.problem, self.objective = problem, make_objective(problem)
        self.theta = problem.make_initial_parameters(self.seed) if theta is None else theta
        self.trace.parameters = problem.parameters
        ranks, chunks = self.objective.communicator, self.objective.chunks
        self._monitor = problem.make_monitor(ranks, chunks, 1)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Counts the CPU seconds of what is done within."""
        began = time.process_time()
        yield
        self._seconds += time.process_time() - began

    def train(self, name: str, iterations: int = FOREVER, until: float = FOREVER) -> None:
        """Goes on by a solver of the package, as `follow`."""
        self.follow(make_solver(self.objective, name, seed=self.seed), iterations, until)

    def train_scaled(self, scaled: KroneckerScaled, name: str, iterations: int) -> None:
        """Goes on by a solver of the package in other variables, as `follow`."""
        with self.timed():
            self.theta = scaled.scale(self.theta, inverse=True)
        self._lift = scaled.scale
        self.follow(make_solver(scaled, name), iterations)
        self._lift = None

    def set_up(self) -> Setting:
        """What solvers of a study's own are made with."""
        return Setting(self.objective, self.seed)

    def follow(
        self, solver: Solver[Any], iterations: int = FOREVER, until: float = FOREVER
    ) -> None:
        """Goes on by a solver for so many iterations, until so many seconds in all, or to its end.

        What goes on by the same one for the same problem is the same stage.
        """
        if self._last != (self.problem, type(solver)):
            self._stage, self._last = self._stage + 1, (self.problem, type(solver))
        with self.timed():
            state = solver.init(self.theta)
        count = 0
        while count < iterations and self._seconds < until:
            with self.timed():
                state, record = solver.step(state)
            count += 1
            ends = record.outcome.is_final or count == iterations or self._seconds >= until
            if ends or count % EVERY == 0:
                theta = state.point.theta
                self.theta = theta if self._lift is None else self._lift(theta)
            self._note(self._scale * record.loss, ends or count % EVERY == 0)
            if record.outcome.is_final:
                break

    def _note(self, loss: float, with_error: bool) -> None:
        error = self._monitor.measure(self.theta)["error"] if with_error else float("inf")
        counts = self.objective.counts
        gradients = self._spent_gradients + counts.gradient_evaluations
        losses = self._spent_losses + counts.loss_evaluations
        row = Row(self._stage, self._seconds, gradients, losses, loss, error)
        self.trace.rows.append(row)
