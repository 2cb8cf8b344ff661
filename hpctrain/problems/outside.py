"""Says how many of some points lie outside of a geometry, where nothing is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hpctrain.parallel.communicator import Communicator


@dataclass
class Outside:
    """Counts points outside, a block of points after the other.

    Attributes:
        count: how many there are.
        first: the coordinates of the first one, "t = 1.5, x = -1".
    """

    count: int = 0
    first: str = ""

    def note(self, outside: np.ndarray, x: Mapping[str, np.ndarray]) -> None:
        """Takes more points: which of them are outside (N,), and their coordinates (N,) by name."""
        places = np.flatnonzero(outside)
        self.count += len(places)
        if len(places) and not self.first:
            self.first = ", ".join(
                f"{name} = {float(values[places[0]]):.6g}" for name, values in x.items()
            )

    def gather(self, ranks: Communicator) -> "Outside":
        """Those of all ranks, on rank 0; none on the others; collective."""
        found = ranks.gather((self.count, self.first)) or []
        first = next((first for _, first in found if first), "")
        return Outside(sum(count for count, _ in found), first)

    def describe(self, points: int) -> str:
        """How many of so many points there are, such as which; empty for none."""
        if not self.count:
            return ""
        lie = "points lies" if self.count == 1 else "points lie"
        return f"{self.count} of {points} {lie} outside of the geometry, such as {self.first}"
