"""`hpctrain watch`: how a run that goes on in another process gets on, in a line."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.job.stop import list_criteria
from hpctrain.results.summary import Summary
from hpctrain.store.claim import is_claimed
from hpctrain.store.files import name_checkpoint_folder
from hpctrain.store.run_file import Run, read_run

# The seconds over which the rate of iterations is measured.
RECENT = 30.0
# A file that nobody here locks, and that has not grown for so many seconds, is no longer written.
QUIET = 60.0


@dataclass(frozen=True)
class Sight:
    """What a run file says at one moment.

    Attributes:
        run: its content.
        age: seconds since the file was last written.
        checkpoint_age: seconds since the last checkpoint was; None where there is none.
        is_claimed: whether a process holds the file to write it, as far as locks are seen here.
    """

    run: Run
    age: float
    checkpoint_age: float | None
    is_claimed: bool

    @property
    def is_over(self) -> bool:
        return self.run.has_ended or self._is_deserted

    @property
    def _is_deserted(self) -> bool:
        return not self.is_claimed and self.age > QUIET

    def describe(self) -> str:
        """Says in a line where the run is, how fast, and how long it will take."""
        if not len(self.run.history["iteration"]):
            return "no iteration yet"
        return " · ".join((self._describe_place(), *self._describe_state()))

    def describe_end(self) -> str:
        """Says why there is nothing more to see."""
        if self.run.has_ended:
            return f"the run has ended: {self.run.stop_reason}"
        return (
            f"nothing was written for {format_seconds(self.age)}, and no process is seen to hold"
            f" the file: if the run was killed, hpctrain resume {self.run.path} goes on with it"
        )

    @cached_property
    def _summary(self) -> Summary:
        return Summary(self.run)

    @property
    def _stop(self) -> Mapping[str, Any]:
        """The criteria that the job asks for."""
        return self._summary.job["stop"]

    def _describe_place(self) -> str:
        history = self.run.history
        iteration, most = int(history["iteration"][-1]), self._stop["max_iterations"]
        text = f"iteration {iteration:,} of at most {most:,}"
        for column, name in (("stage", "stage"), ("slab", "window")):
            if column in history:
                text += f", {name} {int(history[column][-1])}"
        return text

    def _describe_state(self) -> Iterator[str]:
        run, summary, history = self.run, self._summary, self.run.history
        yield f"loss {history['loss'][-1]:.3e}"
        measure = summary.measure
        value = summary.find_final(measure.column)
        if math.isfinite(value):
            yield f"{measure.name} {value:.3g} at {summary.measured_at:,.0f}"
        rate = measure_rate(history["iteration"], history["wall_seconds"])
        if rate is not None:
            yield f"{rate:.3g} iterations/s"
            if not run.has_ended:
                left = (self._stop["max_iterations"] - history["iteration"][-1]) / rate
                yield f"{format_seconds(left)} to stop.max_iterations"
                yield from self._describe_targets()
        if self.checkpoint_age is not None:
            yield f"checkpoint {format_seconds(self.checkpoint_age)} old"

    def _describe_targets(self) -> Iterator[str]:
        """Says when falling quantities come to what the job asks for, if they go on so."""
        history = self.run.history
        for criterion in list_criteria():
            asked = self._stop.get(criterion.key)
            if asked is None or criterion.rises or criterion.quantity not in history:
                continue
            left = extrapolate(history["wall_seconds"], history[criterion.quantity], asked)
            if left is not None:
                yield f"about {format_seconds(left)} to stop.{criterion.key} = {asked:g}"


def look_at(path: Path) -> Sight:
    """Reads a run file, whether its run goes on or not.

    Raises:
        RunFileError: there is no such file, or it is no run file.
    """
    run, now = read_run(path), time.time()
    checkpoints = name_checkpoint_folder(path)
    made = checkpoints.stat().st_mtime if checkpoints.is_dir() else None
    return Sight(
        run,
        max(0.0, now - path.stat().st_mtime),
        None if made is None else max(0.0, now - made),
        is_claimed(path),
    )


def watch(path: Path, interval: float, show: Callable[[str], None]) -> str:
    """Shows a run every so many seconds until it has ended; returns why it did."""
    while True:
        sight = look_at(path)
        show(sight.describe())
        if sight.is_over:
            return sight.describe_end()
        time.sleep(interval)


def measure_rate(iterations: np.ndarray, seconds: np.ndarray) -> float | None:
    """Returns iterations a second over the last RECENT seconds; None before the second record."""
    since = seconds >= seconds[-1] - RECENT
    since[-2:] = True
    done = iterations[since][-1] - iterations[since][0]
    spent = seconds[since][-1] - seconds[since][0]
    return float(done / spent) if spent > 0 and done > 0 else None


def extrapolate(seconds: np.ndarray, values: np.ndarray, target: float) -> float | None:
    """Returns the seconds until a falling quantity is as low as a target.

    The logarithm is taken to fall on as it did over the later half of the time, by least squares.
    None where it did not fall, where less than three values are known, or where that would take
    more than ten times the time so far.
    """
    known = np.isfinite(values) & (values > 0) & (seconds >= seconds[-1] / 2)
    if np.count_nonzero(known) < 3 or target <= 0:
        return None
    slope, height = np.polyfit(seconds[known], np.log(values[known]), 1)
    if slope >= 0:
        return None
    left = (math.log(target) - height) / slope - float(seconds[-1])
    return max(0.0, left) if left <= 10 * seconds[-1] else None


def format_seconds(seconds: float) -> str:
    """Writes a duration as people say it: "12 s", "5 min", "2.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.3g} h"
