"""The outer loop of a run: step → record → checkpoint → stop.

Everything that watches a run (history, progress, checkpoints, the error) is called from here;
solvers know nothing of it. The loop ends in one place, by one reduction over all ranks.
"""

import itertools
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain import build
from hpctrain.errors import InputError
from hpctrain.job import Job, resolved_toml
from hpctrain.kernels import native_available
from hpctrain.monitor import ErrorMonitor, RelativeError
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.threads import set_threads
from hpctrain.phases import PHASES
from hpctrain.progress import Progress
from hpctrain.reasons import Reason
from hpctrain.signals import StopSignals
from hpctrain.solvers import Solver
from hpctrain.solvers.base import Point, Record
from hpctrain.store.checkpoint import CheckpointStore
from hpctrain.store.run_file import RunWriter
from hpctrain.vectors import norm

COLUMNS = {
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
    "error": "f8",
    "error_paper": "f8",
}


class NonFiniteError(ArithmeticError):
    """The loss or the gradient is NaN or infinite where the solver stands: nothing goes on."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    reason: Reason
    iterations: int
    output: Path | None

    @property
    def status(self) -> int:
        return self.reason.status


@dataclass
class Tally:
    """Where a run stands, beside its solver's state; written to checkpoints with it."""

    iteration: int = 0
    seconds: float = 0.0
    nominal_gradient_evaluations: float = 0.0
    update_cost: float = 0.0


def run(job: Job, communicator: Communicator, output: str | None = None) -> Outcome:
    """Trains as the job says; collective.

    Args:
        job: the checked job, equal on all ranks.
        communicator: all ranks.
        output: the run file; by default the job's `output.path`, numbered if it exists. None in
            both writes nothing.

    Raises:
        InputError: the output exists or a file named in the job cannot be used.
        NonFiniteError: the loss became NaN or infinite.
    """
    path = communicator.on_root(lambda: _output_path(job, output))
    threads = set_threads(communicator, job.parallel.threads)
    build.leave_threads_to_kernels()
    problem = build.make_problem(job)
    objective = build.make_objective(job, problem, communicator, threads)
    solver = build.make_job_solver(job, problem, objective, threads)
    monitor = ErrorMonitor(problem, communicator, job.parallel.chunks, threads)
    theta = problem.initial_parameters(job.seed)
    with StopSignals() as signals:
        loop = _Loop(job, communicator, objective, solver, monitor, signals, path, threads)
        return loop.run(theta)


def _output_path(job: Job, output: str | None) -> Path | None:
    """Where the run file goes: nothing that exists is ever written over."""
    if output is not None and output != job.output.path:
        taken = _taken(Path(output))
        if taken:
            raise InputError(f"-o {output}: {taken} exists already: name another, or remove it")
        return Path(output)
    if job.output.path is None:
        return None
    path = Path(job.output.path)
    numbered = (path.with_stem(f"{path.stem}-{k}") for k in itertools.count(2))
    return next(
        candidate for candidate in itertools.chain([path], numbered) if not _taken(candidate)
    )


def _taken(path: Path) -> Path | None:
    """What stands where a run would write: its file or its checkpoints."""
    return next((found for found in (path, _checkpoint_folder(path)) if found.exists()), None)


def _checkpoint_folder(path: Path) -> Path:
    return path.with_suffix(".ckpt")


class _Loop:
    """One run from its first step to its end."""

    def __init__(
        self,
        job: Job,
        communicator: Communicator,
        objective: Objective,
        solver: Solver[Any],
        monitor: ErrorMonitor,
        signals: StopSignals,
        path: Path | None,
        threads: int,
    ) -> None:
        self._job = job
        self._communicator = communicator
        self._objective = objective
        self._solver = solver
        self._monitor = monitor
        self._signals = signals
        self._path = path
        self._tally = Tally()
        self._error = RelativeError()
        self._phases = communicator.timer.snapshot()
        self._started = time.perf_counter()
        self._checkpoints = (
            CheckpointStore(_checkpoint_folder(path), communicator) if path else None
        )
        shown = communicator.is_root
        self._progress = Progress(self._header(threads), job.stop.max_iterations, shown)
        self._writer = self._open_writer(threads) if path and shown else None

    def run(self, theta: torch.Tensor) -> Outcome:
        began = time.perf_counter()
        state = self._solver.init(theta)
        self._tally.seconds += time.perf_counter() - began
        point = state.point
        record = Record(point.loss, norm(point.gradient), 0.0, 0, 0)
        self._record(point, record, evaluate=True)
        reason = self._agree(point, record)
        while reason is Reason.RUNNING:
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
            if reason is Reason.RUNNING and period and self._tally.iteration % period == 0:
                self._checkpoint(state)
        return self._finish(state, reason)

    def _record(self, point: Point, record: Record, evaluate: bool) -> None:
        """One row of the history; the error is evaluated where asked for, NaN elsewhere."""
        error = self._monitor.error(point.theta) if evaluate else RelativeError()
        if evaluate:
            self._error = error
        counts = self._objective.counts
        row = asdict(self._tally) | {
            "wall_seconds": time.perf_counter() - self._started,
            "loss": record.loss,
            "gradient_norm": record.gradient_norm,
            "step_length": record.step_length,
            "loss_evaluations": counts.loss_evaluations,
            "gradient_evaluations": counts.gradient_evaluations,
            "hvp_evaluations": counts.hvp_evaluations,
            "error": error.error,
            "error_paper": error.error_paper,
        }
        phases = self._phase_seconds() if evaluate else None
        with self._communicator.timer.phase("io"):
            self._progress.show(row, self._error.error)
            if self._writer is not None:
                self._writer.append(row, phases)
                period = self._job.output.iterates_every
                if period and self._tally.iteration % period == 0:
                    self._writer.append_iterate(self._tally.iteration, point.theta.numpy())

    def _phase_seconds(self) -> np.ndarray | None:
        """(ranks, phases, 2) since the last call, on rank 0."""
        now = self._communicator.timer.snapshot()
        spent, self._phases = now - self._phases, now
        gathered = self._communicator.gather(spent)
        return None if gathered is None else np.stack(gathered)

    def _agree(self, point: Point, record: Record) -> Reason:
        """The reason to stop that weighs most on any rank: one reduction an iteration."""
        stop, tally = self._job.stop, self._tally
        # A search also fails where all trials are NaN: then so is the loss that was finite before.
        loss = self._objective.at(point.theta).loss if record.stalled else record.loss
        elapsed = time.perf_counter() - self._started
        reasons = {
            Reason.RUNNING: True,
            Reason.MAX_ITERATIONS: tally.iteration >= stop.max_iterations,
            Reason.MAX_GRADIENT_EVALUATIONS: stop.max_gradient_evaluations is not None
            and self._objective.counts.gradient_evaluations >= stop.max_gradient_evaluations,
            Reason.STALLED: record.stalled,
            Reason.GRADIENT_NORM: stop.gradient_norm is not None
            and record.gradient_norm <= stop.gradient_norm,
            Reason.ERROR: stop.error is not None and self._error.error <= stop.error,
            Reason.MAX_SECONDS: stop.max_seconds is not None and elapsed >= stop.max_seconds,
            Reason.SIGNAL: self._signals.received,
            Reason.NON_FINITE: not math.isfinite(loss + record.gradient_norm),
        }
        own = max(reason for reason, holds in reasons.items() if holds)
        return Reason(self._communicator.maximum([own])[0])

    def _checkpoint(self, state: Any) -> None:
        if self._checkpoints is not None:
            with self._communicator.timer.phase("io"):
                kept = {"tally": asdict(self._tally), "counts": asdict(self._objective.counts)}
                led = self._solver.setting.led_blocks
                self._checkpoints.write(self._tally.iteration, state, kept, led)

    def _finish(self, state: Any, reason: Reason) -> Outcome:
        if reason is Reason.NON_FINITE:
            self._end_history(reason, None)
            raise NonFiniteError(
                f"iteration {self._tally.iteration}: the loss or its gradient became NaN or"
                f" infinite near the last point (loss {state.point.loss:g},"
                f" gradient norm {norm(state.point.gradient):g})"
            )
        self._checkpoint(state)
        solution = self._monitor.solution(state.point.theta)
        self._error = self._monitor.error(state.point.theta)
        self._end_history(reason, solution)
        self._progress.finish(self._summary(state.point, reason))
        return Outcome(reason, self._tally.iteration, self._path)

    def _end_history(self, reason: Reason, solution: dict[str, np.ndarray] | None) -> None:
        """The run file is complete when any rank goes on from here."""
        with self._communicator.timer.phase("io"):
            if self._writer is not None:
                self._writer.finish(reason.text, solution)
            self._communicator.barrier()

    def _open_writer(self, threads: int) -> RunWriter:
        assert self._path is not None
        parameters = self._objective.parameters
        return RunWriter(
            self._path,
            job=resolved_toml(self._job),
            environment={
                "ranks": self._communicator.size,
                "threads": threads,
                "host": platform.node(),
                "mpi": self._communicator.mpi_version,
                "torch": str(torch.__version__),
                "numpy": str(np.__version__),
                "python": platform.python_version(),
                "kernels": _kernels(),
                "parameters": parameters,
            },
            columns=COLUMNS,
            phases=PHASES,
            ranks=self._communicator.size,
            iterate_size=parameters if self._job.output.iterates_every else None,
        )

    def _header(self, threads: int) -> list[str]:
        job = self._job
        return [
            f"{job.problem.name}: {job.problem.points} points, {job.network.kind} network,"
            f" {job.network.depth} layers x {job.network.width} ({job.network.activation}),"
            f" n = {self._objective.parameters}, {job.precision}, seed {job.seed}",
            *(f"  {line}" for line in self._solver.describe()),
            f"  {self._communicator.size} ranks x {threads} threads, {_kernels()},"
            f" output {self._path or 'none'}",
        ]

    def _summary(self, point: Point, reason: Reason) -> list[str]:
        counts, tally = self._objective.counts, self._tally
        return [
            f"stopped: {reason.text}",
            f"  {tally.iteration} iterations in {tally.seconds:.2f} s of training"
            f" ({time.perf_counter() - self._started:.2f} s in all)",
            f"  loss {point.loss:.3e}, relative error {self._error.error:.3e}"
            f" (divided by |u_NN|: {self._error.error_paper:.3e})",
            f"  {counts.gradient_evaluations:.1f} gradient and {counts.loss_evaluations:.1f} loss"
            f" evaluations (nominal gradients {tally.nominal_gradient_evaluations:.0f})",
        ]


def _kernels() -> str:
    return "native kernels" if native_available() else "torch kernels"
