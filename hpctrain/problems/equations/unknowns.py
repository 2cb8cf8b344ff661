"""Numbers of an equation that are found together with its solution.

They stand behind the network in θ, each as a free number τ: an unknown p that may have any sign is
p = s τ, with s the size of its start; one that is positive is p = exp τ.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpctrain.problems.equations.given import is_number


@dataclass(frozen=True)
class Unknown:
    """A number to be found: Unknown(0.5), or Unknown(0.5, positive=True).

    Attributes:
        start: where training begins.
        positive: it stays above 0.
        true: its value where that is known, for reports.
    """

    start: float
    positive: bool = False
    true: float | None = None

    def __post_init__(self) -> None:
        for name in ("start", "true"):
            if is_number(getattr(self, name)):  # others are told of by the equations, with a name
                object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def scale(self) -> float:
        """s, the unit in which τ counts."""
        return abs(self.start) or 1.0

    @property
    def first(self) -> float:
        """τ at the start."""
        return math.log(self.start) if self.positive else self.start / self.scale

    def value(self, tau: Any) -> Any:
        """p, of a number, a tensor or a symbol."""
        return torch.exp(tau) if self.positive else self.scale * tau

    def slope(self, tau: float) -> float:
        """dp/dτ."""
        return math.exp(tau) if self.positive else self.scale


def list_starts(unknowns: Mapping[str, Unknown]) -> Tensor:
    """τ of all unknowns at the start, (q,), float64."""
    return torch.tensor([u.first for u in unknowns.values()], dtype=torch.float64, device="cpu")


def evaluate(unknowns: Mapping[str, Unknown], taus: Any) -> dict[str, Any]:
    """The unknowns by name, of their τ, a sequence of q numbers or symbols."""
    return {name: u.value(tau) for (name, u), tau in zip(unknowns.items(), taus, strict=True)}
