"""The outer loop of a run: step → observe → agree whether the stage or the run ends.

Solvers know nothing of what watches a run, and observers nothing of each other. The loop ends in
one place, by one reduction over all ranks. It holds the solver of one stage at a time, and asks for
its successor's where that stage ends.
"""

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hpctrain.errors import RunError
from hpctrain.job.stop import CALLBACK, NON_FINITE, OUTPUT_FAILED, SIGNAL, Criterion, Reason
from hpctrain.linalg.vectors import norm
from hpctrain.objective import Point
from hpctrain.problems.base import LocatingProblem
from hpctrain.run.observers import Observers
from hpctrain.run.parts import Clock, Moment, Parts, StageStart, Tally
from hpctrain.run.resume import Kept, Past, restore
from hpctrain.run.signals import StopSignals
from hpctrain.run.stop import Verdict, explain, judge
from hpctrain.run.texts import (
    describe_end,
    describe_guard,
    describe_stage_end,
    describe_start,
    name_place,
)
from hpctrain.solvers.base import Record

# Losses of squared residuals at the start between which constants of some methods are right.
SMALL_LOSS, LARGE_LOSS = 1e-8, 1e8


class NonFiniteError(RunError):
    """The loss or the gradient is NaN or infinite where the solver stands: nothing goes on."""


@dataclass(frozen=True)
class End:
    """How a run ended."""

    reason: Reason | Criterion
    iterations: int
    output: Path | None

    @property
    def status(self) -> int:
        return self.reason.status


class Loop:
    """One run from its first step to its end; its methods are collective.

    Args:
        parts: what it is made of.
        observers: what watches it.
        signals: which may ask it to stop.
    """

    def __init__(self, parts: Parts, observers: Observers, signals: StopSignals) -> None:
        self._parts = parts
        self._observers = observers
        self._signals = signals
        self._tally = Tally()
        self._clock = Clock()
        self._solver = parts.stages.make_solver(1)

    def start(self, theta: Tensor, past: Past | None = None) -> End:
        """Trains from θ₀ (n,); `past` is a run that was killed before its first checkpoint."""
        self._begin(past)
        state, record = self._begin_stage(theta)
        self._warn_of_size(record.loss)
        self._observe(state.point.theta, record)
        return self._iterate(state, record, self._agree(state.point, record))

    def go_on(self, theta: Tensor, past: Past) -> End:
        """Trains from the last checkpoint of a run that started at θ₀ (n,)."""
        if past.checkpoint is None:
            return self.start(theta, past)
        parts, kept = self._parts, Kept.from_json(past.checkpoint.extra)
        self._tally, self._clock.earlier = kept.tally, kept.wall_seconds
        self._solver = parts.stages.make_solver(kept.tally.stage.number)
        state = restore(past.checkpoint, self._solver, parts, theta)
        self._observers.validation.values = dict(kept.monitored)
        verdict = self._agree(state.point, kept.record)
        reason = verdict.reason
        if verdict.ends_run and explain(reason, kept.record.outcome) == past.stop_reason:
            self._say_started()
            self._observers.validation.measure(state.point.theta)
            said = f"nothing to do, {past.path} has ended: {past.stop_reason}"
            return self._end(state.point, reason, said)
        self._begin(past)
        return self._iterate(state, kept.record, verdict)

    def _iterate(self, state: Any, record: Record, verdict: Verdict) -> End:
        """Steps, through one stage after the other, until there is a reason to stop."""
        checkpoints = self._observers.checkpoints
        while not verdict.ends_run:
            if verdict.goes_on:
                began = time.perf_counter()
                state, record = self._solver.step(self._renew(state))
                self._tally.add_step(record, time.perf_counter() - began)
                self._observe(state.point.theta, record)
            else:
                state, record = self._pass_on(state.point, record, verdict)
            verdict = self._agree(state.point, record)
            if verdict.goes_on and checkpoints.is_due(self._tally.iteration):
                moment = self._look(state.point.theta, record)
                checkpoints.write(state, moment, self._solver.led)
        return self._finish(state, record, verdict.reason)

    def _pass_on(self, point: Point, record: Record, verdict: Verdict) -> tuple[Any, Record]:
        """Ends the stage; the next one begins where it ended."""
        reason, stages = explain(verdict.reason, record.outcome), self._parts.stages
        self._observers.progress.say(describe_stage_end(stages, self._tally, reason, record.loss))
        start = StageStart(
            self._tally.stage.number + 1,
            self._tally.iteration,
            self._tally.count_epochs(record),
            self._parts.objective.counts.gradient_evaluations,
            self._clock.total,
            (*self._tally.stage.ended, reason),
        )
        self._tally.begin_stage(start)
        number, renewal = self._tally.stage.number, self._parts.renewal
        if renewal is not None and stages[number - 1].window != stages[number - 2].window:
            renewal.renew(point.theta, self._tally.iteration)
            self._observers.validation.measure(point.theta)  # what is known is of another loss
        self._solver = stages.make_solver(number)
        return self._begin_stage(point.theta)

    def _begin_stage(self, theta: Tensor) -> tuple[Any, Record]:
        """The solver's state at θ (n,), and what a record says of it."""
        began = time.perf_counter()
        state = self._solver.init(theta)
        self._tally.seconds += time.perf_counter() - began
        return state, Record(state.point.loss, norm(state.point.gradient), 0.0, 0, 0)

    def _renew(self, state: Any) -> Any:
        """The state under the loss of the next iteration, where that is another one."""
        renewal, iteration = self._parts.renewal, self._tally.iteration
        if renewal is None or not renewal.is_due(iteration):
            return state
        before = state.point.loss
        renewal.renew(state.point.theta, iteration)
        state = self._solver.renew(state)
        theta = renewal.guard(iteration, before, state.point)
        if theta is None:
            return state
        after, state = state.point.loss, self._solver.go_back(state, theta)
        said = describe_guard(iteration, before, after, state.point.loss)
        self._observers.progress.say(said)
        return state

    def _observe(self, theta: Tensor, record: Record) -> None:
        """Shows an iteration to all observers, the monitor first."""
        validation = self._observers.validation
        is_measured = validation.is_due(self._tally.iteration)
        if is_measured:
            validation.measure(theta)
        self._observers.show(self._look(theta, record, is_measured))

    def _look(self, theta: Tensor, record: Record, is_measured: bool = False) -> Moment:
        known, clock = self._observers.validation.values, self._clock
        return Moment(self._tally, record, theta, is_measured, known, clock.total, clock.elapsed)

    def _agree(self, point: Point, record: Record) -> Verdict:
        """Whether the stage or the run ends, as all ranks agree."""
        faults = {
            CALLBACK: self._observers.callbacks.ask_to_stop,
            SIGNAL: self._signals.received,
            OUTPUT_FAILED: self._observers.history.fault is not None,
        }
        return judge(self._parts, self._look(point.theta, record), point, faults)

    def _finish(self, state: Any, record: Record, reason: Reason | Criterion) -> End:
        """Writes the last checkpoint and the end of the run file, and says how it ended."""
        history, point, ended = self._observers.history, state.point, self._tally.stage.ended
        if reason is OUTPUT_FAILED:
            raise history.explain_fault()
        if reason is NON_FINITE:
            history.finish(reason.text, ended, None, self._parts.join_parameters(point.theta), {})
            raise NonFiniteError(
                f"iteration {self._tally.iteration}: the loss or its gradient became NaN or"
                f" infinite near the last point (loss {point.loss:g},"
                f" gradient norm {norm(point.gradient):g}){self._locate_not_finite(point)}"
            )
        moment = self._look(point.theta, record)
        self._observers.checkpoints.write(state, moment, self._solver.led)
        text = explain(reason, record.outcome)
        solution = self._parts.monitor.evaluate_solution(point.theta) or None
        validation = self._observers.validation
        validation.measure(point.theta)
        theta = self._parts.join_parameters(point.theta)
        history.finish(text, ended, solution, theta, validation.values)
        place = name_place(self._parts.stages, self._tally)
        return self._end(point, reason, f"stopped{place}: {text}")

    def _locate_not_finite(self, point: Point) -> str:
        problem, L = self._parts.problem, self._parts.objective
        if not isinstance(problem, LocatingProblem) or not bool(point.theta.isfinite().all()):
            return ""
        found = problem.locate_not_finite(point.theta, L.communicator, L.chunks, L.threads)
        return f": {found}" if found else ""

    def _begin(self, past: Past | None) -> None:
        self._observers.history.open(past)
        self._say_started()

    def _say_started(self) -> None:
        path = self._observers.history.path
        self._observers.progress.begin(describe_start(self._parts, path, self._tally))

    def _end(self, point: Point, reason: Reason | Criterion, said: str) -> End:
        validation, progress = self._observers.validation, self._observers.progress
        lines = describe_end(
            self._parts, point.loss, validation.values, self._tally, self._clock.total
        )
        progress.finish([said, *lines])
        return End(reason, self._tally.iteration, self._observers.history.path)

    def _warn_of_size(self, loss: float) -> None:
        """Warns, on rank 0, of residuals for which constants of some methods are not made."""
        is_far = 0 < loss < SMALL_LOSS or LARGE_LOSS < loss < math.inf
        if is_far and self._parts.objective.has_residuals and self._parts.place.ranks.is_root:
            warnings.warn(
                f"the loss at the start is {loss:.1e}: multiply the residual by a number that"
                " brings it near 1, as constants of some methods (adam, gauss-newton) ask for",
                stacklevel=2,
            )
