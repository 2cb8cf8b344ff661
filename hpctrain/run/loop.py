"""The outer loop of a run: step → record → checkpoint → stop.

Everything that watches a run (history, progress, checkpoints, the error) is called from here;
solvers know nothing of it. The loop ends in one place, by one reduction over all ranks.
"""

import math
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain.errors import InputError, RunError
from hpctrain.job.settings import Job, resolved_toml
from hpctrain.job.stop import (
    NON_FINITE,
    OUTPUT_FAILED,
    RUNNING,
    SIGNAL,
    STALLED,
    ZERO_GRADIENT,
    Criterion,
    Reason,
)
from hpctrain.kernels import kernels_on
from hpctrain.linalg.arrays import to_array
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome as SolverOutcome
from hpctrain.objective import Objective, Point, evaluate
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.devices import Device, choose_device
from hpctrain.parallel.phases import PHASES, peak_memory_mb
from hpctrain.parallel.threads import set_threads
from hpctrain.parallel.transports.choice import carried
from hpctrain.problems.base import Monitor, Problem
from hpctrain.run import assemble as build
from hpctrain.run.memory import keep_freed_memory
from hpctrain.run.observers.progress import Progress
from hpctrain.run.output import Output, checkpoint_folder, claim_new_file, claimed
from hpctrain.run.resume import Kept, Past, Tally, find, fingerprint, restore
from hpctrain.run.signals import StopSignals
from hpctrain.run.stop import agree_on_reason, explain
from hpctrain.solvers import Solver
from hpctrain.solvers.base import Record
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.claim import Claim
from hpctrain.store.run_file import ColumnType, RunWriter

COLUMNS: dict[str, ColumnType] = {
    "iteration": "i8",
    "seconds": "f8",
    "wall_seconds": "f8",
    "loss": "f8",
    "gradient_norm": "f8",
    "loss_evaluations": "f8",
    "gradient_evaluations": "f8",
    "hvp_evaluations": "f8",
    "nominal_gradient_evaluations": "f8",
    "update_cost": "f8",
    "step_length": "f8",
    "outcome": {outcome.name: outcome.number for outcome in SolverOutcome},
}

# A loss of squared residuals at the start, below which constants of some methods are too large.
SMALL_LOSS = 1e-8

# What writing to a file that cannot grow raises, by way of HDF5.
OUTPUT_FAULTS = (OSError, RuntimeError, ValueError)


class NonFiniteError(RunError):
    """The loss or the gradient is NaN or infinite where the solver stands: nothing goes on."""


class OutputError(RunError):
    """The run file cannot be written any more, such as where the disk is full."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    reason: Reason | Criterion
    iterations: int
    output: Path | None

    @property
    def status(self) -> int:
        return self.reason.status


def run(
    job: Job,
    communicator: Communicator,
    output: str | None = None,
    signals: StopSignals | None = None,
) -> Outcome:
    """Trains as the job says; collective.

    Args:
        job: the checked job, equal on all ranks.
        communicator: all ranks.
        output: the run file; by default the job's `output.path`, numbered if it exists. None in
            both writes nothing.
        signals: entered by the caller, which may have noted some before; by default noted here.

    Raises:
        InputError: the output exists, is in use or cannot be made, a file named in the job cannot
            be used, or there are more ranks than chunks.
        RunError: the loss became NaN or infinite, or the output cannot be written.
    """
    place = claimed(communicator, lambda: claim_new_file(job, output))
    return _train(job, communicator, place, None, signals)


def resume(
    run_file: str,
    communicator: Communicator,
    overrides: Sequence[str] = (),
    signals: StopSignals | None = None,
) -> Outcome:
    """Goes on with a run from its last checkpoint, on any number of ranks; collective.

    The history and the final θ are those of a run that was never interrupted.

    Args:
        run_file: which it goes on to write.
        overrides: of `stop.*`, `output.*`, `parallel.threads` and `parallel.transport`.
        signals: as in `run`.

    Raises:
        InputError, RunError: as `run`; also where there is nothing to go on from.
    """
    with claimed(communicator, lambda: Claim(Path(run_file))) as output:
        past = find(run_file, overrides, communicator)
        return _train(past.job, communicator, nullcontext(output), past, signals)


def _train(
    job: Job,
    communicator: Communicator,
    place: AbstractContextManager[Output],
    past: Past | None,
    signals: StopSignals | None,
) -> Outcome:
    build.check_ranks(job, communicator.size, resumed=past is not None)
    device = choose_device(build.wanted_device(job), communicator)
    with carried(communicator, job.parallel.transport, device) as ranks:
        return _train_on(device, job, ranks, place, past, signals)


def _train_on(
    device: Device,
    job: Job,
    communicator: Communicator,
    place: AbstractContextManager[Output],
    past: Past | None,
    signals: StopSignals | None,
) -> Outcome:
    threads = set_threads(communicator, job.parallel.threads)
    keep_freed_memory()
    build.leave_threads_to_kernels(job)
    if device.is_gpu:  # it is the GPU that computes
        threads = 1
    problem = communicator.on_all(lambda: build.make_problem(job, device.place))
    build.check_ranks_agree(problem, communicator)
    for caution in problem.cautions if communicator.is_root else ():
        warnings.warn(caution, stacklevel=2)
    objective = build.make_objective(job, problem, communicator, threads)
    solver = build.make_job_solver(job, objective)
    monitor = build.make_monitor(job, problem, communicator, threads)
    theta = problem.initial_parameters(job.seed)
    with place as output, nullcontext(signals) if signals else StopSignals() as signals:
        loop = _Loop(
            job, communicator, problem, objective, solver, monitor, signals, output, threads, device
        )
        return loop.run(theta) if past is None else loop.resume(theta, past)


def _failure(write: Callable[[], Any]) -> str | None:
    """Calls a function that writes the run file; how it failed, if it did."""
    try:
        write()
    except OUTPUT_FAULTS as error:
        return " ".join(str(error).split())
    return None


class _Loop:
    """One run from its first step to its end."""

    def __init__(
        self,
        job: Job,
        communicator: Communicator,
        problem: Problem,
        objective: Objective,
        solver: Solver[Any],
        monitor: Monitor,
        signals: StopSignals,
        output: Output,
        threads: int,
        device: Device,
    ) -> None:
        self._job = job
        self._device = device
        self._communicator = communicator
        self._problem = problem
        self._objective = objective
        self._solver = solver
        self._monitor = monitor
        self._signals = signals
        self._path = path = output.path
        self._claim = output.claim
        self._tally = Tally()
        self._monitored = dict.fromkeys(monitor.columns, math.nan)
        self._measured = self._snapshot()
        self._started = time.perf_counter()
        self._earlier_seconds = 0.0
        self._checkpoints = CheckpointStore(checkpoint_folder(path), communicator) if path else None
        # Ranks trace at points of their own: what the first of them lacks is what the run says.
        lacking = communicator.allgather(objective.untraced)
        self._untraced = next((each for each in lacking if each is not None), None)
        self._progress = Progress(job.stop.max_iterations, communicator.is_root)
        self._threads = threads
        self._writer: RunWriter | None = None
        self._broken: str | None = None

    def run(self, theta: torch.Tensor) -> Outcome:
        """From θ₀ (n,)."""
        self._open_writer(None)
        return self._from_start(theta)

    def resume(self, theta: torch.Tensor, past: Past) -> Outcome:
        """From the last checkpoint of a run that started at θ₀ (n,)."""
        if past.checkpoint is None:
            self._open_writer(past)
            return self._from_start(theta)
        state, kept = restore(past.checkpoint, self._solver, self._objective, theta)
        self._tally, self._earlier_seconds = kept.tally, kept.wall_seconds
        self._monitored = dict(kept.monitored)
        reason = self._agree(state.point, kept.record)
        text = explain(reason, kept.record.outcome)
        if reason is not RUNNING and text == past.stop_reason:
            self._monitored = self._monitor.values(state.point.theta)
            self._progress.begin(self._header())
            lines = [f"nothing to do, {past.path} has ended: {text}"]
            self._progress.finish([*lines, *self._summary(state.point, text)[1:]])
            return Outcome(reason, self._tally.iteration, self._path)
        self._open_writer(past)
        return self._from(state, kept.record, reason)

    def _from_start(self, theta: torch.Tensor) -> Outcome:
        began = time.perf_counter()
        state = self._solver.init(theta)
        self._tally.seconds += time.perf_counter() - began
        point = state.point
        self._warn_of_size(point.loss)
        record = Record(point.loss, norm(point.gradient), 0.0, 0, 0)
        self._record(point, record, evaluate=True)
        return self._from(state, record, self._agree(point, record))

    def _warn_of_size(self, loss: float) -> None:
        """Warns, on rank 0, of residuals for which constants of some methods are too large."""
        small = self._objective.has_residuals and 0 < loss < SMALL_LOSS
        if small and self._communicator.is_root:
            warnings.warn(
                f"the loss at the start is {loss:.1e}: multiply the residual by a number that"
                " brings it near 1, as constants of some methods (adam, gauss-newton) ask for",
                stacklevel=2,
            )

    def _from(self, state: Any, record: Record, reason: Reason | Criterion) -> Outcome:
        """Steps until there is a reason to stop."""
        while reason is RUNNING:
            began = time.perf_counter()
            state, record = self._solver.step(state)
            self._tally.seconds += time.perf_counter() - began
            self._tally.iteration += 1
            self._tally.nominal_gradient_evaluations += record.nominal_gradient_evaluations
            self._tally.update_cost += record.update_cost
            every = self._job.output.error_every
            self._record(state.point, record, evaluate=self._tally.iteration % every == 0)
            reason = self._agree(state.point, record)
            period = self._job.output.checkpoint_every
            if reason is RUNNING and period and self._tally.iteration % period == 0:
                self._checkpoint(state, record)
        return self._finish(state, record, reason)

    def _record(self, point: Point, record: Record, evaluate: bool) -> None:
        """One row of the history; the monitor's columns are NaN where it is not asked."""
        if evaluate:
            self._monitored = self._monitor.values(point.theta)
        monitored = self._monitored if evaluate else dict.fromkeys(self._monitored, math.nan)
        counts = self._objective.counts
        row = asdict(self._tally) | {
            "wall_seconds": self._wall_seconds(),
            "loss": record.loss,
            "gradient_norm": record.gradient_norm,
            "step_length": record.step_length,
            "outcome": record.outcome.number,
            "loss_evaluations": counts.loss_evaluations,
            "gradient_evaluations": counts.gradient_evaluations,
            "hvp_evaluations": counts.hvp_evaluations,
            **{column: record.details.get(column, math.nan) for column in self._solver.columns},
            **monitored,
        }
        if self._objective.has_subsets:
            row["epoch"] = self._tally.iteration if record.epoch is None else record.epoch
        measured = self._measurements() if evaluate else None
        with self._communicator.timer.phase("io"):
            self._progress.show(row, self._monitor.progress(monitored) if evaluate else "")
            self._broken = _failure(lambda: self._write(row, measured, point.theta))

    def _write(
        self,
        row: dict[str, Any],
        measured: tuple[np.ndarray, np.ndarray] | None,
        theta: torch.Tensor,
    ) -> None:
        if self._writer is not None:
            self._writer.append(row, *(measured or ()))
            period = self._job.output.iterates_every
            if period and self._tally.iteration % period == 0:
                self._writer.append_iterate(self._tally.iteration, to_array(theta))

    def _wall_seconds(self) -> float:
        """Since the run was first started, without the time between its parts."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def _snapshot(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds (phases, 2) and traffic (2,) of this rank so far."""
        return self._communicator.timer.snapshot(), self._communicator.traffic.snapshot()

    def _measurements(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Seconds (ranks, phases, 2) and traffic (ranks, 2) since the last call, on rank 0."""
        before, self._measured = self._measured, self._snapshot()
        spent = [now - then for now, then in zip(self._measured, before, strict=True)]
        gathered = self._communicator.gather(spent)
        if gathered is None:
            return None
        seconds, traffic = (np.stack(each) for each in zip(*gathered, strict=True))
        return seconds, traffic

    def _agree(self, point: Point, record: Record) -> Reason | Criterion:
        """The reason to stop that weighs most on any rank: one reduction an iteration."""
        tally = self._tally
        # A search also fails where all trials are NaN: then so is the loss that was finite before.
        loss = self._objective.at(point.theta).loss if record.outcome.is_final else record.loss
        gradient_norm = self._deciding_gradient_norm(point, record)
        numbers = {
            **self._monitored,
            "iteration": tally.iteration,
            "gradient_evaluations": self._objective.counts.gradient_evaluations,
            "gradient_norm": gradient_norm,
            "elapsed_seconds": time.perf_counter() - self._started,
        }
        others = {
            STALLED: record.outcome.is_final,
            ZERO_GRADIENT: gradient_norm == 0,
            SIGNAL: self._signals.received,
            NON_FINITE: not math.isfinite(loss + record.gradient_norm),
            OUTPUT_FAILED: self._broken is not None,
        }
        holding = [reason for reason, holds in others.items() if holds]
        return agree_on_reason(self._communicator, self._job.stop, numbers, holding)

    def _deciding_gradient_norm(self, point: Point, record: Record) -> float:
        """‖∇L(θ)‖ over all samples where it may end the run, else ∞; collective.

        A solver's own may be that of a mini-batch, which is small where others' are not.
        """
        bound = self._job.stop.gradient_norm or 0.0
        if not (record.ends_epoch and record.gradient_norm <= bound):
            return math.inf
        with self._communicator.timer.phase("validation"):
            return norm(evaluate(self._objective.uncounted(), point.theta).gradient)

    def _checkpoint(self, state: Any, record: Record) -> None:
        """The records up to here are on the disk before a checkpoint counts on them."""
        if self._checkpoints is None:
            return
        with self._communicator.timer.phase("io"):
            self._on_root(lambda: self._writer.sync() if self._writer else None)
            kept = Kept(
                self._tally,
                record,
                self._monitored,
                asdict(self._objective.counts),
                self._wall_seconds(),
                fingerprint(self._job),
            )
            led = self._solver.led
            self._checkpoints.write(self._tally.iteration, state, kept.to_json(), led)

    def _finish(self, state: Any, record: Record, reason: Reason | Criterion) -> Outcome:
        if reason is OUTPUT_FAILED:
            raise self._output_error(self._communicator.broadcast(self._broken))
        if reason is NON_FINITE:
            self._end_history(reason.text, None)
            raise NonFiniteError(
                f"iteration {self._tally.iteration}: the loss or its gradient became NaN or"
                f" infinite near the last point (loss {state.point.loss:g},"
                f" gradient norm {norm(state.point.gradient):g})"
            )
        self._checkpoint(state, record)
        solution = self._monitor.solution(state.point.theta) or None
        self._monitored = self._monitor.values(state.point.theta)
        text = explain(reason, record.outcome)
        self._end_history(text, solution)
        self._progress.finish(self._summary(state.point, text))
        return Outcome(reason, self._tally.iteration, self._path)

    def _end_history(self, reason: str, solution: dict[str, np.ndarray] | None) -> None:
        """The run file is complete when any rank goes on from here."""
        facts = {"peak_memory_mb": self._communicator.maximum([peak_memory_mb()])[0]}
        with self._communicator.timer.phase("io"):
            self._on_root(
                lambda: self._writer.finish(reason, solution, facts) if self._writer else None
            )

    def _on_root(self, write: Callable[[], Any]) -> None:
        """Calls a function that writes the run file, on rank 0; all ranks learn if it fails."""

        failure = self._communicator.on_root(lambda: _failure(write))
        if failure is not None:
            raise self._output_error(failure)

    def _output_error(self, reason: str) -> OutputError:
        return OutputError(
            f"{self._path}: cannot be written at iteration {self._tally.iteration}, the last"
            f" checkpoint stands: {reason}"
        )

    def _open_writer(self, past: Past | None) -> None:
        """The run file, on rank 0; all ranks learn if it cannot be opened."""
        failure = self._communicator.on_root(lambda: _failure(lambda: self._make_writer(past)))
        if failure is not None:
            raise InputError(f"{self._path}: the run file cannot be made: {failure}")
        self._progress.begin(self._header())

    def _make_writer(self, past: Past | None) -> None:
        if self._path is None:
            return
        parameters = self._objective.parameters
        history = past.history() if past else None
        resumes = int(history.attributes.get("resumes", 0)) + 1 if history else 0
        keeps_iterates = self._job.output.iterates_every or (history and history.iterates)
        self._writer = RunWriter(
            self._path,
            job=resolved_toml(self._job),
            environment={
                "ranks": self._communicator.size,
                "threads": self._threads,
                "resumes": resumes,
                "host": platform.node(),
                "mpi": self._communicator.mpi_version,
                "torch": str(torch.__version__),
                "numpy": str(np.__version__),
                "python": platform.python_version(),
                "kernels": self._kernels() + self._left_in_torch(),
                "device": self._device.name,
                "transport": self._communicator.transport,
                "parameters": parameters,
            },
            columns=self._columns(),
            phases=PHASES,
            ranks=self._communicator.size,
            iterate_size=parameters if keeps_iterates else None,
            past=history,
            claim=self._claim,
        )

    def _columns(self) -> dict[str, ColumnType]:
        """The history's columns: epochs for a loss that can be taken in batches."""
        epoch: dict[str, ColumnType] = {"epoch": "f8"} if self._objective.has_subsets else {}
        more = (*self._solver.columns, *self._monitor.columns)
        return COLUMNS | epoch | dict.fromkeys(more, "f8")

    def _header(self) -> list[str]:
        job = self._job
        return [
            f"{job.problem.name}: {self._problem.describe()},"
            f" n = {self._objective.parameters}, {job.precision}, seed {job.seed}",
            *(f"  {line}" for line in self._solver.describe()),
            *self._fallback_lines(),
            f"  {self._communicator.size} ranks x {self._threads} threads, {self._described()},"
            f" output {self._path or 'none'}",
        ]

    def _summary(self, point: Point, reason: str) -> list[str]:
        counts, tally = self._objective.counts, self._tally
        measured = f"  loss {point.loss:.3e}", self._monitor.summary(self._monitored)
        return [
            f"stopped: {reason}",
            f"  {tally.iteration} iterations in {tally.seconds:.2f} s of training"
            f" ({self._wall_seconds():.2f} s in all)",
            ", ".join(filter(None, measured)),
            f"  {counts.gradient_evaluations:.1f} gradient and {counts.loss_evaluations:.1f} loss"
            f" evaluations (nominal gradients {tally.nominal_gradient_evaluations:.0f})",
        ]

    def _described(self) -> str:
        """Kernels, and what is not the usual: the GPU, the transport."""
        device = f" on {self._device.name}" if self._device.is_gpu else ""
        transport = self._communicator.transport
        carried = "" if transport in ("none", "mpi") else f", messages by {transport}"
        return self._kernels() + device + carried

    def _fallback_lines(self) -> list[str]:
        if self._untraced is None:
            return []
        return [
            f"  residual in torch between two native sweeps: {self._untraced} is not among the"
            " kernels' operations (an evaluation takes about 1.3 to 2.3 times as long, on several"
            " threads more)"
        ]

    def _left_in_torch(self) -> str:
        return "" if self._untraced is None else f", residual in torch: {self._untraced}"

    def _kernels(self) -> str:
        return f"{kernels_on(self._device.place)} kernels"
