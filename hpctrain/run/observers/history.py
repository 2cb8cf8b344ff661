"""Writes the run file: a row of the history for each iteration, and the end."""

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain.errors import InputError, RunError
from hpctrain.job.own_code import list_own_files, write_digests
from hpctrain.job.settings import Job, write_toml
from hpctrain.linalg.arrays import to_array
from hpctrain.methods.outcomes import Outcome
from hpctrain.parallel.phases import PHASES, measure_peak_memory_mb
from hpctrain.run.output import Output
from hpctrain.run.parts import Moment, Parts
from hpctrain.run.resume import Past
from hpctrain.store.run_file import FINAL, ColumnType, Entry, RunWriter

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
    "outcome": {outcome.name: outcome.number for outcome in Outcome},
}

# Columns of some runs.
EPOCH, STAGE = "epoch", "stage"

# Rows of iterations that take less are written together, which takes hardly longer than for one.
WRITE_INTERVAL = 0.2
# What writing to a file that cannot grow raises, by way of HDF5.
OUTPUT_FAULTS = (OSError, RuntimeError, ValueError)

# Seconds (…, phases, 2) and traffic (…, 2).
Timings = tuple[np.ndarray, np.ndarray]


class OutputError(RunError):
    """The run file cannot be written any more, such as where the disk is full."""


class History:
    """Writes the run file of one run on rank 0; does nothing where the run has no file.

    Args:
        parts: what the run is made of.
        output: where it is written.
        job: the job, which is written too.
        period: iterations from one snapshot of θ to the next; 0 for none.

    Attributes:
        fault: why a row could not be written, on rank 0; the loop ends the run for it.
    """

    def __init__(self, parts: Parts, output: Output, job: Job, period: int) -> None:
        self._parts = parts
        self._job = job
        self._period = period
        self._ranks = parts.place.ranks
        self._output = output
        self._timed = self._take_snapshot()
        self._writer: RunWriter | None = None
        self._waiting: list[Entry] = []
        self._last_write = -math.inf
        self._iteration = 0
        self.fault: str | None = None

    @property
    def path(self) -> Path | None:
        """The path of the run file; None where the run has no file."""
        return self._output.path

    def open(self, past: Past | None) -> None:
        """Makes the file, with what a run that goes on keeps; collective.

        Raises:
            InputError: it cannot be made.
        """
        if past is not None and past.checkpoint is not None:
            self._iteration = past.checkpoint.iteration
        failure = self._ranks.run_on_root(lambda: _try_to_write(lambda: self._make_writer(past)))
        if failure is not None:
            raise InputError(f"{self._output.path}: the run file cannot be made: {failure}")

    def make_row(self, moment: Moment) -> dict[str, Any]:
        """Makes a row: a value for each column, NaN for the monitor's where it was not asked."""
        tally, record, stages = moment.tally, moment.record, self._parts.stages
        counts = self._parts.objective.counts
        row = {
            "iteration": tally.iteration,
            "seconds": tally.seconds,
            "nominal_gradient_evaluations": tally.nominal_gradient_evaluations,
            "update_cost": tally.update_cost,
            "wall_seconds": moment.wall_seconds,
            "loss": record.loss,
            "gradient_norm": record.gradient_norm,
            "step_length": record.step_length,
            "outcome": record.outcome.number,
            "loss_evaluations": counts.loss_evaluations,
            "gradient_evaluations": counts.gradient_evaluations,
            "hvp_evaluations": counts.hvp_evaluations,
            **{column: record.details.get(column, math.nan) for column in stages.columns},
            **(self._parts.renewal.list_values() if self._parts.renewal else {}),
            **dict.fromkeys(self._parts.monitor.columns, math.nan),
            **(moment.known if moment.is_measured else {}),
        }
        if self._counts_epochs:
            row[EPOCH] = tally.count_epochs(record)
        if len(stages) > 1:
            row[STAGE] = tally.stage.number
        return row

    def measure_time(self, moment: Moment) -> Timings | None:
        """Returns seconds (ranks, phases, 2) and traffic (ranks, 2) since the last call, on rank 0.

        Collective; asked for where the monitor was.
        """
        return self._gather_times() if moment.is_measured else None

    def _gather_times(self) -> Timings | None:
        """The same, wherever it is asked for."""
        before, self._timed = self._timed, self._take_snapshot()
        spent = [now - then for now, then in zip(self._timed, before, strict=True)]
        gathered = self._ranks.gather(spent)
        if gathered is None:
            return None
        seconds, traffic = (np.stack(each) for each in zip(*gathered, strict=True))
        return seconds, traffic

    def write(self, row: Mapping[str, Any], timings: Timings | None, theta: torch.Tensor) -> None:
        """Adds a row, and θ (n,) where a snapshot is due; what fails is noted as `fault`.

        A row is in the file at once, unless another was written within `WRITE_INTERVAL`: then it
        waits for the end of the next iteration, for `flush` or `sync`.
        """
        self._iteration = row["iteration"]
        if self._writer is not None:
            self._waiting.append(Entry(row, *(timings or ())))
            self.fault = _try_to_write(lambda: self._append(theta))

    def flush(self) -> None:
        """Writes the rows that wait; not collective. What fails is noted as `fault`."""
        self.fault = self.fault or _try_to_write(self._write_waiting)

    def sync(self) -> None:
        """Waits until all rows are on the disk; collective.

        Raises:
            OutputError: they cannot be written.
        """
        self._write_on_root(lambda writer: writer.sync())

    def finish(
        self,
        reason: str,
        ended: Sequence[str],
        solution: Mapping[str, np.ndarray] | None,
        theta: torch.Tensor,
        measured: Mapping[str, float],
    ) -> None:
        """Completes the file before any rank goes on; collective.

        Args:
            reason: why the run ended.
            ended: why the stages before its last one did.
            solution: what the monitor keeps of the final θ.
            theta: the final θ (n,).
            measured: what the monitor says of it, by its columns.

        Raises:
            OutputError: it cannot be written.
        """
        memory = self._ranks.find_maximum([measure_peak_memory_mb()])[0]
        facts: dict[str, Any] = {"peak_memory_mb": memory, "stage_reasons": [*ended, reason]}
        facts |= {f"{FINAL}{name}": float(value) for name, value in measured.items()}
        last, timings = to_array(theta), self._gather_times() or ()
        with self._ranks.timer.phase("io"):
            self._write_on_root(
                lambda writer: writer.finish(reason, solution, facts, last, *timings)
            )

    def explain_fault(self) -> OutputError:
        """Makes the error that ends the run on all ranks for rank 0's `fault`; collective."""
        return self._make_error(self._ranks.broadcast(self.fault))

    def _append(self, theta: torch.Tensor) -> None:
        iteration = self._iteration
        snapshot_is_due = self._period > 0 and iteration % self._period == 0
        if snapshot_is_due or time.perf_counter() - self._last_write >= WRITE_INTERVAL:
            self._write_waiting()
        if snapshot_is_due and self._writer is not None:
            self._writer.append_iterate(iteration, to_array(theta))

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._writer is not None and waiting:
            self._writer.extend(waiting)
            self._last_write = time.perf_counter()

    @cached_property
    def _counts_epochs(self) -> bool:
        """Whether some solver may take mini-batches."""
        stages, objective = self._parts.stages, self._parts.objective
        return objective.has_subsets or any(
            each.method.takes_batches(each.options) for each in stages
        )

    def _take_snapshot(self) -> Timings:
        """Seconds (phases, 2) and traffic (2,) of this rank so far."""
        return self._ranks.timer.snapshot(), self._ranks.traffic.snapshot()

    def _write_on_root(self, write: Callable[[RunWriter], None]) -> None:
        def write_all() -> None:
            self._write_waiting()
            if self._writer is not None:
                write(self._writer)

        failure = self._ranks.run_on_root(lambda: _try_to_write(write_all))
        if failure is not None:
            raise self._make_error(failure)

    def _make_error(self, reason: str) -> OutputError:
        return OutputError(
            f"{self._output.path}: cannot be written at iteration {self._iteration}, the last"
            f" checkpoint stands: {reason}"
        )

    def _make_writer(self, past: Past | None) -> None:
        if self._output.path is None:
            return
        kept = past.read_history() if past else None
        parameters = self._parts.objective.parameters
        keeps_iterates = self._period or (kept and kept.iterates)
        self._writer = RunWriter(
            self._output.path,
            job=write_toml(self._job),
            environment={
                **self._describe_place(),
                "kernels": past.add_kernels(self._parts.kernels) if past else self._parts.kernels,
                "resumes": int(kept.attributes.get("resumes", 0)) + 1 if kept else 0,
                "parameters": parameters,
                "samples": self._parts.objective.samples,
                "run": self._output.identity,
                "own_code": write_digests(list_own_files(self._job)),
            },
            columns=self._list_columns(),
            phases=PHASES,
            ranks=self._ranks.size,
            iterate_size=parameters if keeps_iterates else None,
            past=kept,
            claim=self._output.claim,
        )

    def _describe_place(self) -> dict[str, str | int]:
        place = self._parts.place
        return {
            "ranks": place.ranks.size,
            "threads": place.threads,
            "host": platform.node(),
            "mpi": place.ranks.mpi_version,
            "torch": str(torch.__version__),
            "numpy": str(np.__version__),
            "python": platform.python_version(),
            "device": place.device.name,
            "transport": place.ranks.transport,
        }

    def _list_columns(self) -> dict[str, ColumnType]:
        """The columns; epochs too for a loss that can be taken in batches; which stage it is."""
        stages, more = self._parts.stages, dict[str, ColumnType]()
        if self._counts_epochs:
            more[EPOCH] = "f8"
        if len(stages) > 1:
            more[STAGE] = {f"{each.number} {each.name}": each.number for each in stages}
        renewed = self._parts.renewal.columns if self._parts.renewal else ()
        measured = (*stages.columns, *renewed, *self._parts.monitor.columns)
        return COLUMNS | more | dict.fromkeys(measured, "f8")


def _try_to_write(write: Callable[[], None]) -> str | None:
    """Calls a function that writes the run file; how it failed, if it did."""
    try:
        write()
    except OUTPUT_FAULTS as error:
        return " ".join(str(error).split())
    return None
