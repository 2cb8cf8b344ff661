"""Measured values of fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_tensor
from hpctrain.problems.data.tables import read_table
from hpctrain.problems.equations.conditions.base import (
    AnyCondition,
    Frame,
    check_field,
    read_derivative,
)
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.given import is_number
from hpctrain.problems.equations.terms import ProblemError, Term

# Standard deviations whose squares and their reciprocals are numbers.
_NOISE = (1e-100, 1e100)


@dataclass(frozen=True)
class Observations(AnyCondition):
    """Values of fields, or of their derivatives, at points: Observations("probes.csv", ["u", "v"]).

    Attributes:
        data: a file (CSV with a line of names, NPY with named columns, NPZ or HDF5 with a data set
            a column), or a mapping of names to arrays: a column for each coordinate and input, and
            one for each measured field.
        fields: those measured, "u" or a derivative as "u.x".
        noise: standard deviation of the errors; it gives the term the weight w/noise².
        weight, name: see `AnyCondition`.
    """

    kind: ClassVar[str] = "Observations"
    data: str | Path | Mapping[str, Any]
    fields: Sequence[str]
    noise: float | None = field(default=None, kw_only=True)
    points: int | None = field(default=None, init=False)

    def check(self, frame: Frame, place: str) -> None:
        is_list = isinstance(self.fields, Sequence) and not isinstance(self.fields, str)
        if not is_list or not self.fields:
            raise ProblemError(
                f"{place}: fields = {self.fields!r} must be a list of names, such as"
                f' ["{frame.fields[0]}"]'
            )
        for name in self.fields:
            check_field(name, frame, place, derivatives=True)
        if len(set(self.fields)) < len(self.fields):
            raise ProblemError(f"{place}: fields = {[*self.fields]!r} names a field twice")
        low, high = _NOISE
        if not (self.noise is None or (is_number(self.noise) and low <= self.noise <= high)):
            raise ProblemError(
                f"{place}: noise = {self.noise!r} is not allowed: a number from {low:g} to {high:g}"
            )

    @property
    def source(self) -> str:
        """What messages call the data."""
        return "its data" if isinstance(self.data, Mapping) else str(self.data)

    def make_term(self, frame: Frame, name: str, points: int) -> Term:
        place = f"{frame.title}: {name}"
        columns = self.columns(place)
        wanted = [*frame.axes.names, *self.fields]
        if missing := [each for each in wanted if each not in columns]:
            raise ProblemError(
                f"{place}: {self.source} has no column {missing[0]}: it has"
                f" {', '.join(columns)}, and must have {', '.join(wanted)}"
            )
        rows = np.stack([columns[each] for each in wanted])
        if bad := np.flatnonzero(~np.isfinite(rows).all(axis=0)).tolist():
            raise ProblemError(f"{place}: {self.source} is not finite in row {bad[0] + 1}")
        d = len(frame.axes.names)
        x = to_tensor(rows[:d].copy())
        self._check_inside(x, frame, place)
        weight = float(self.weight) / float(self.noise or 1.0) ** 2
        measured = to_tensor(rows[d:].copy())
        return Term(name, x, self._zero, weight, given=measured)

    def columns(self, place: str) -> dict[str, np.ndarray]:
        """The columns by name, each (N,) in float64.

        Raises:
            ProblemError: the file cannot be read, or is no table.
        """
        try:
            raw = dict(self.data) if isinstance(self.data, Mapping) else read_table(Path(self.data))
            columns = {str(name): np.asarray(each, np.float64) for name, each in raw.items()}
        except InputError:
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            why = " ".join(str(error).split())
            raise ProblemError(f"{place}: {self.source} cannot be read: {why}") from error
        lengths = {each.shape for each in columns.values()}
        if len(lengths) != 1 or len(next(iter(lengths))) != 1 or not next(iter(lengths))[0]:
            raise ProblemError(
                f"{place}: {self.source} must have columns of one length, at least 1: it has"
                f" {', '.join(f'{n} {each.shape}' for n, each in columns.items()) or 'none'}"
            )
        return columns

    def _zero(
        self, at: At, fields: Mapping[str, Field], unknowns: Mapping[str, Any]
    ) -> dict[str, Any]:
        pairs = zip(self.fields, at.given, strict=True)
        return {name: read_derivative(fields, name) - measured for name, measured in pairs}

    def _check_inside(self, x: Tensor, frame: Frame, place: str) -> None:
        bounds = torch.tensor(frame.region.bounds, dtype=x.dtype, device=x.device)
        slack = 1e-9 * (bounds[:, 1] - bounds[:, 0])
        low, high = (bounds[:, 0] - slack)[:, None], (bounds[:, 1] + slack)[:, None]
        out = ((x < low) | (x > high)).any(dim=0)
        if bool(out.any()):
            row = int(out.nonzero()[0])
            raise ProblemError(
                f"{place}: {self.source} has a point outside of the geometry in row {row + 1}:"
                f" {frame.axes.describe(x[:, row])}"
            )
