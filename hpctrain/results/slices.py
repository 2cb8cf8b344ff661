"""A solution on a line or in a plane, as figures of it show: values, errors and residuals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from hpctrain.linalg.arrays import to_array, to_tensor
from hpctrain.problems.equations.equations import Equations
from hpctrain.results.grids import parse_grid
from hpctrain.results.points import sort_axes
from hpctrain.results.solution import BLOCK, Evaluable, Solution
from hpctrain.results.summary import StudyError

# Coordinates that do not vary: a text, or a number for each by name.
Fixed = str | Mapping[str, float]
# Points along a line, and along each side of a plane.
LINE, SIDE = 801, 241


@runtime_checkable
class Drawable(Evaluable, Protocol):
    """A solution whose equations are known, too."""

    equations: Equations

    @property
    def first_points(self) -> Tensor: ...

    def evaluate_residuals(self, theta: Tensor, points: Tensor, threads: int) -> dict[str, Tensor]:
        """The equation's residuals (N,) by name at points (d, N)."""

    def evaluate_references(self, points: Tensor) -> dict[str, Tensor]:
        """The true fields (N,) at points (d, N), those that are known."""


@dataclass(frozen=True)
class Slice:
    """Values where one or two coordinates vary, and the others have given numbers.

    Attributes:
        problem: the equations.
        solution: of them.
        fixed: the other coordinates.
    """

    problem: Drawable
    solution: Solution
    fixed: Mapping[str, float]

    @cached_property
    def names(self) -> list[str]:
        """The coordinates that vary, time first, which pictures have to the right."""
        free = [name for name in self.solution.coordinates if name not in self.fixed]
        return sort_axes(free)[::-1] if len(free) == 2 and sort_axes(free) != free else free

    @cached_property
    def axes(self) -> dict[str, np.ndarray]:
        """The numbers of each coordinate that varies: the middles of equal parts of its range."""
        bounds = self.bounds
        count = LINE if len(self.names) == 1 else SIDE
        parts = (np.arange(count) + 0.5) / count
        return {name: bounds[name][0] + parts * np.ptp(bounds[name]) for name in self.names}

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Between which numbers the geometry has each coordinate."""
        region = self.problem.equations.frame.region
        return dict(zip(self.solution.coordinates, region.bounds, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of arrays of values."""
        return tuple(len(values) for values in self.axes.values())

    @cached_property
    def _x(self) -> np.ndarray:
        """The points (d, N) of the slice that are inside, in the order of the grid."""
        grids = dict(zip(self.axes, np.meshgrid(*self.axes.values(), indexing="ij"), strict=True))
        return np.stack(
            [
                grids[name].ravel() if name in grids else np.full(self._count, self.fixed[name])
                for name in self.solution.coordinates
            ]
        )

    @property
    def _count(self) -> int:
        return int(np.prod(self.shape))

    @property
    def is_empty(self) -> bool:
        """Whether no point of it is inside of the geometry."""
        return not self._inside.any()

    @cached_property
    def _inside(self) -> np.ndarray:
        return ~self.solution.find_outside(self._x)

    def evaluate(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Values by name, of the slice's shape; NaN outside of the geometry."""
        return self._fill(lambda x: self.solution.evaluate_columns(x, names))

    def evaluate_residuals(self) -> dict[str, np.ndarray]:
        """The equation's residuals by name, likewise."""
        theta, threads = self.solution.theta, self.solution.threads
        return self._fill_tensors(lambda x: self.problem.evaluate_residuals(theta, x, threads))

    def evaluate_references(self) -> dict[str, np.ndarray]:
        """The true fields, those that are known, likewise."""
        return self._fill_tensors(self.problem.evaluate_references)

    def find_first_points(self) -> np.ndarray:
        """The collocation points at the start, their coordinates that vary (1 or 2, N)."""
        points = to_array(self.problem.first_points)
        return points[[self.solution.coordinates.index(name) for name in self.names]]

    def _fill_tensors(
        self, evaluate: Callable[[Tensor], Mapping[str, Tensor]]
    ) -> dict[str, np.ndarray]:
        return self._fill(lambda x: {n: to_array(v) for n, v in evaluate(to_tensor(x)).items()})

    def _fill(
        self, evaluate: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Values at the points inside, a block after the other, with NaN elsewhere."""
        inside, found = self._x[:, self._inside], dict[str, np.ndarray]()
        places = np.flatnonzero(self._inside)
        for start in range(0, len(places), BLOCK):
            block = slice(start, start + BLOCK)
            values = evaluate(np.ascontiguousarray(inside[:, block]))
            for name, each in values.items():
                found.setdefault(name, np.full(self._count, np.nan))[places[block]] = each
        return {name: each.reshape(self.shape) for name, each in found.items()}


def make_slice(solution: Solution, at: Fixed | None) -> Slice:
    """Makes the slice at "z=0.5,nu=0.1", or at {"z": 0.5, "nu": 0.1}.

    Raises:
        InputError: there is no such coordinate, not one or two are left to vary, or nothing of the
            slice is inside of the geometry.
    """
    problem, coordinates = solution.problem, solution.coordinates
    assert isinstance(problem, Drawable)
    asked = f"--at {at}" if isinstance(at, str) else f"at = {at!r}"
    axes = _read_fixed(at, asked) if at else {}
    for name, values in axes.items():
        if name not in coordinates or values.size != 1 or not np.isfinite(values).all():
            raise StudyError(
                f"{asked} is not allowed: one number for coordinates of {', '.join(coordinates)}"
            )
    free = [name for name in coordinates if name not in axes]
    if len(free) not in (1, 2):
        raise StudyError(
            f"a figure shows one or two coordinates, and {', '.join(free) or 'none'} vary: fix"
            f" others by --at {coordinates[-1]}=0.5"
        )
    region = Slice(problem, solution, {name: float(values[0]) for name, values in axes.items()})
    if region.is_empty:
        bounds = {name: region.bounds[name] for name in axes or coordinates}
        there = ", ".join(f"{name} from {a:g} to {b:g}" for name, (a, b) in bounds.items())
        raise StudyError(f"{asked} is not allowed: no such point is in the geometry, {there}")
    return region


def _read_fixed(at: Fixed, asked: str) -> Mapping[str, np.ndarray]:
    """Reads the coordinates that do not vary; `asked` is how messages name them."""
    if isinstance(at, str):
        return parse_grid(at, f"{asked} is not allowed: z=0.5,nu=0.1")
    try:
        return {name: np.ravel(np.asarray(value, np.float64)) for name, value in at.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise StudyError(
            f"{asked} is not allowed: 'z=0.5,nu=0.1', or a mapping with a number for each"
        ) from error
