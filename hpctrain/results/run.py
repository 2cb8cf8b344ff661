"""A run in the user's hands: what it reached and what it cost, and its solution at any points."""

import html
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

from hpctrain.errors import InputError
from hpctrain.job.overrides import read_overrides
from hpctrain.job.own_code import is_given_again
from hpctrain.job.settings import Job, parse_job
from hpctrain.job.stop import REASONS, RUNNING
from hpctrain.parallel.threads import find_visible_cores
from hpctrain.results import export, figures, report, style
from hpctrain.results.exported import make_module
from hpctrain.results.grids import parse_grid
from hpctrain.results.slices import Fixed
from hpctrain.results.solution import Solution, find_parameters, make_solution, open_problem
from hpctrain.store import writable
from hpctrain.store.files import check_path
from hpctrain.store.run_file import INTERVAL, STANDARD_ERROR, Run, read_run


@dataclass(frozen=True)
class Estimate:
    """An unknown that was found with the fields.

    Attributes:
        value: at the end of the run.
        standard_error: of it; NaN where it could not be computed.
        interval: of 95 % confidence, by Student's distribution.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]


class Result:
    """A run that has ended, or the records so far of one that has not.

    `train` and `resume` return it for a run that they made, `load` for one in a file.

    Args:
        run: what its file holds.
        job: its settings.
        changed_code: its Python files may be others than those that it was made with.
        folder: keeps the folder of its file, if that is gone with this object.
    """

    def __init__(
        self,
        run: Run,
        job: Job,
        changed_code: bool = False,
        folder: object | None = None,
    ) -> None:
        self.run = run
        self.job = job
        self.folder = folder
        self._changed_code = changed_code

    @property
    def path(self) -> Path:
        """The run file."""
        return self.run.path

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """A column (records,) for each name, such as "iteration", "seconds", "loss", "error"."""
        return self.run.history

    @property
    def theta(self) -> np.ndarray:
        """The final parameters (n,).

        Raises:
            InputError: the run has not ended.
        """
        return find_parameters(self.run)

    @property
    def reason(self) -> str:
        """Why the run ended; "running" while it goes on, and for ever if it was killed."""
        return self.run.stop_reason

    @property
    def status(self) -> int | None:
        """The exit status of `hpctrain run`: 0, or 75 to be resumed; None for a running run."""
        if self.reason == RUNNING.text:
            return None
        return next((each.status for each in REASONS if each.text == self.reason), 0)

    @property
    def final(self) -> dict[str, float]:
        """What was measured of the final parameters by name: errors, unknowns, accuracies.

        Of a classifier it has "test_accuracy" and "test_loss", whatever `output.error_every` is.
        """
        return dict(self.run.final)

    @property
    def errors(self) -> dict[str, float]:
        """The errors of the final parameters by name: "error", of several fields "error_u" too.

        Of an unknown with a true value it is "error_k".
        """
        return {name: value for name, value in self.final.items() if name.startswith("error")}

    @property
    def unknowns(self) -> dict[str, Estimate]:
        """The unknowns of the equations by name."""
        solution = self.run.solution or {}
        found = dict[str, Estimate]()
        for name in self.run.unknowns:
            value, half = self.final[name], float(solution[f"{INTERVAL}{name}"])
            error = float(solution[f"{STANDARD_ERROR}{name}"])
            found[name] = Estimate(value, error, (value - half, value + half))
        return found

    def predict(
        self, points: Mapping[str, Any] | np.ndarray | str, *names: str
    ) -> dict[str, np.ndarray]:
        """Evaluates the solution at points.

        Args:
            points: numbers for each coordinate by name, of shapes that broadcast to one; or an
                array (N, d), a column a coordinate in their order; or a grid such as
                "t=0:1:101,x=-1:1:201" (low:high:count, or one number).
            names: fields, their derivatives or quantities, such as "u", "u.x"; by default all
                fields and quantities.

        Returns:
            an array for each name, of the shape of the points; for a grid a dimension an axis.

        Raises:
            InputError: there is no such name, points do not fit, or the problem has no points.
        """
        solution = self._solution
        return solution.evaluate(_name_coordinates(points, solution.coordinates), names)

    @cached_property
    def network(self) -> nn.Module:
        """What was trained, as a module of torch by itself.

        Of equations it takes points (N, d), a column a coordinate, to fields (N, k), exact
        conditions and scaling included; of a classifier samples to probabilities (N, classes).
        """
        return make_module(*self._opened)

    @cached_property
    def _opened(self) -> tuple[Any, Tensor]:
        """The problem and the final parameters."""
        return open_problem(self.run, self._changed_code, job=self.job)

    @cached_property
    def _solution(self) -> Solution:
        threads = self.job.parallel.threads or len(find_visible_cores())
        return make_solution(self.path, *self._opened, threads)

    def plot(
        self,
        path: str | PathLike[str] | None = None,
        *,
        fields: str | Sequence[str] | None = None,
        at: Fixed | None = None,
        width: str | None = None,
    ) -> Figure:
        """Draws the run as `hpctrain plot` does; into a file if one is named.

        Args:
            path: of a png, pdf or svg.
            fields: "u,u.x", or a list of such names: draws these fields, errors, residuals and
                unknowns for print; without it the solution and the convergence.
            at: coordinates of the fields that do not vary, "z=0.5" or {"z": 0.5}.
            width: "single" or "double", a journal's column or two.

        Raises:
            InputError: the file has another suffix, or there are no such fields.
        """
        output = None if path is None else check_path(path, "path")
        if output is not None:
            style.check_output(output)
        _check_figure(fields, at, width)
        if fields is not None:
            figure = figures.draw_fields(self.run, self._solution, fields, at, width)
        else:
            figure = figures.draw_in_width([self.run], width)
        if output is not None:
            style.save(figure, output)
        return figure

    def report(self, form: str = "text") -> str:
        """Writes the tables of `hpctrain report`, as "text", "markdown" or "csv"."""
        return report.report_runs([self.run], form)

    def export(self, path: str | PathLike[str]) -> Path:
        """Writes the trained network for other programs, as `hpctrain export` does.

        Args:
            path: .pt2 for torch.export, .pt for TorchScript, .onnx for ONNX.

        Raises:
            InputError: the run has not ended, or its network cannot be written so.
        """
        output = check_path(path, "path")
        export.check_output(output, f"path = {str(output)!r}")
        export.write(*self._opened, output)
        return output

    def save(self, path: str | PathLike[str]) -> Path:
        """Copies the run file, of a run that was to leave none; `load` reads it.

        Checkpoints are not copied: a run to go on with has an `output.path`, or its result.

        Raises:
            InputError: there is a file of this name already, or it cannot be written.
        """
        copy = check_path(path, "path")
        if copy.exists():
            raise InputError(f"{copy} exists already: name another, or remove it")
        with writable.explain(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path, copy)
        return copy

    def __repr__(self) -> str:
        known = {"loss": self._find_final_loss(), **self.final}
        values = ", ".join(f"{name} {value:.3e}" for name, value in known.items())
        return f"<Result of {self.job.problem.name}: {self.reason}, {values}>"

    def _repr_html_(self) -> str:
        """The report, where a notebook shows this object."""
        return f"<pre>{html.escape(self.report())}</pre>"

    def _find_final_loss(self) -> float:
        losses = self.history["loss"]
        return float(losses[-1]) if len(losses) else float("nan")


def load(
    path: str | PathLike[str], *, set: Mapping[str, Any] | None = None, changed_code: bool = False
) -> Result:
    """Opens the run file of a finished, running or killed run; runs no code.

    Args:
        path: of the run file.
        set: the classes that Python gave the run, by their settings, such as
            {"problem.name": Heat}; only `Result.predict` needs them.
        changed_code: `Result.predict` runs a Python file that the job names also where it has
            changed since.

    Raises:
        InputError: it is no run file, or a class is not one of the run's.
    """
    run = read_run(check_path(path, "path"))
    for override in read_overrides(set or {}):
        if not is_given_again(run.job, override):
            raise InputError(f"{override.said}: {path} has no class of this name there")
    return Result(run, parse_job(run.job, str(path), set or {}), changed_code)


def _check_figure(fields: str | Sequence[str] | None, at: Fixed | None, width: str | None) -> None:
    """Refuses what does not go together in a figure."""
    if at is not None and fields is None:
        raise InputError(f"at = {at!r} is not allowed without fields")
    if width is not None and width not in [*style.WIDTHS]:
        allowed = " or ".join(map(repr, style.WIDTHS))
        raise InputError(f"width = {width!r} is not allowed: {allowed}")


def _name_coordinates(points: Any, coordinates: tuple[str, ...]) -> Mapping[str, Any]:
    """Numbers for each coordinate, of shapes that broadcast."""
    if isinstance(points, Mapping):
        return points
    if isinstance(points, str):
        allowed = (
            f"points = {points!r} are not allowed: a mapping, an array (N, {len(coordinates)})"
        )
        axes = parse_grid(points, allowed)
        return dict(zip(axes, np.ix_(*axes.values()), strict=True))
    columns = np.asarray(points)
    if columns.ndim != 2 or columns.shape[1] != len(coordinates):
        raise InputError(
            f"points of shape {columns.shape} are not allowed: (N, {len(coordinates)}), a column"
            f" for each of {', '.join(coordinates)}"
        )
    return dict(zip(coordinates, columns.T, strict=True))
