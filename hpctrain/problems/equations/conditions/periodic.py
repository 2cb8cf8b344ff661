"""Solutions that repeat themselves along a coordinate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from hpctrain.problems.equations.conditions.base import AnyCondition, Frame, place_points_on
from hpctrain.problems.equations.fields import At, Field
from hpctrain.problems.equations.given import is_count
from hpctrain.problems.equations.terms import ProblemError, Term


@dataclass(frozen=True)
class Periodic(AnyCondition):
    """u and its derivatives agree at both ends of a coordinate: Periodic("x").

    Attributes:
        along: the coordinate.
        exact: by the network's inputs cos, sin(2πk (x − low)/length), k = 1 … `harmonics`, in the
            place of x, or by subdomains that make a ring where x is cut; else by terms.
        harmonics: of the inputs, of which a ring has none.
        derivatives: where it is not exact, orders 0 … `derivatives` − 1 agree.
        weight, points, name: see `AnyCondition`.
    """

    kind: ClassVar[str] = "Periodic"
    along: str
    exact: bool = field(default=True, kw_only=True)
    harmonics: int = field(default=1, kw_only=True)
    derivatives: int = field(default=2, kw_only=True)

    @property
    def is_exact(self) -> bool:
        return self.exact

    @property
    def count(self) -> int:
        """Numbers that the network takes in the place of the coordinate."""
        return 2 * self.harmonics

    def check(self, frame: Frame, place: str) -> None:
        if self.along not in frame.axes.coordinates:
            known = ", ".join(frame.axes.coordinates)
            raise ProblemError(f"{place}: along = {self.along!r} is not allowed: one of {known}")
        if {f"{self.along}.low", f"{self.along}.high"} - {p.name for p in frame.region.pieces}:
            raise ProblemError(f"{place}: the geometry has no two faces {self.along}.low and .high")
        for key, most in (("harmonics", 64), ("derivatives", 4)):
            if not is_count(getattr(self, key), most):
                raise ProblemError(
                    f"{place}: {key} = {getattr(self, key)!r} is not allowed: from 1 to {most}"
                )

    def inputs(self, x: Tensor, low: float, high: float) -> list[Tensor]:
        """What the network takes in the place of x (N,)."""
        angles = [2 * math.pi * k / (high - low) * (x - low) for k in range(1, self.harmonics + 1)]
        return [wave(angle) for angle in angles for wave in (torch.cos, torch.sin)]

    def base(self, x: Tensor, low: float, high: float) -> Tensor:
        """x scaled to [−1, 1]."""
        return 2 / (high - low) * (x - (low + high) / 2)

    def admit(self, frequencies: Tensor) -> Tensor:
        """Whole multiples of π, which have the period."""
        return math.pi * torch.round(frequencies / math.pi)

    def make_term(self, frame: Frame, name: str, points: int) -> Term:
        place = f"{frame.title}: {name}"
        low, _ = place_points_on(f"{self.along}.low", frame, place, self.count_points(points))
        high = low.clone()
        coordinate = frame.axes.coordinates.index(self.along)
        high[coordinate] = frame.region.bounds[coordinate][1]
        pairs = torch.stack([low, high], dim=2).flatten(1)
        return Term(name, pairs, self._zero, float(self.weight), group=2)

    def _zero(
        self, at: At, fields: Mapping[str, Field], unknowns: Mapping[str, Any]
    ) -> dict[str, Any]:
        jumps = {}
        for name, u in fields.items():
            for order in range(self.derivatives):
                value = getattr(u, self.along * order) if order else u.value
                jumps[f"{name}.{self.along * order}".rstrip(".")] = value[1] - value[0]
        return jumps
