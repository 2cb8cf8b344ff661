"""Equations whose time is cut into windows: one network after the other, of the same parameters.

The first window begins with the equations' own Initial conditions, each other one with the values
(and rates, where Initial gives them) that the network before it has at its last time. A window's
training starts from the parameters with which the last one ended.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange
from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_array
from hpctrain.objective import Objective, Point
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.conditions import Initial
from hpctrain.problems.equations.conditions.base import split_name
from hpctrain.problems.equations.equations import Equations
from hpctrain.problems.equations.errors import evaluate_references
from hpctrain.problems.equations.geometry import GeometryError
from hpctrain.problems.equations.holding import Holding
from hpctrain.problems.equations.loss import PinnLoss
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.problems.equations.slabs.handover import Start
from hpctrain.problems.equations.slabs.monitor import SlabMonitor
from hpctrain.problems.equations.slabs.windows import find_windows, take_window
from hpctrain.problems.equations.terms import ProblemError


@dataclass(frozen=True)
class SlabState:
    """What the loss depends on beside θ.

    Attributes:
        window: that is trained, from 0.
        thetas: (K, n), with which the windows before it ended; 0 for the others.
    """

    window: int
    thetas: Tensor

    @cached_property
    def digests(self) -> list[bytes]:
        """Of the parameters of each window and of all before it."""
        found, last = list[bytes](), b""
        for theta in to_array(self.thetas):
            last = blake2b(last + theta.tobytes()).digest()
            found.append(last)
        return found


class SlabProblem:
    """See the module and `problems.base.Problem`; its loss is that of one window at a time.

    Args:
        equations: over all of time.
        slabs: as `find_windows` takes them.
        make: the problem of the equations of a window.
        seed: of the parameters with which the first window's training starts.
    """

    def __init__(
        self,
        equations: Equations,
        slabs: int | Sequence[float],
        make: Callable[[Equations], PinnProblem],
        seed: int,
    ) -> None:
        self.equations, self._in_torch = equations, False
        self.bounds = find_windows(slabs, equations)
        self.windows = [make(take_window(equations, self.bounds[0], None))]
        self.parameters = self.windows[0].parameters
        # Forms of later windows are tried out before there are solutions of the earlier ones.
        first = self.windows[0].make_initial_parameters(seed)
        self.state = SlabState(0, first.repeat(len(self.bounds), 1))
        for number, window in enumerate(self.bounds[1:], start=1):
            try:
                self.windows.append(make(take_window(equations, window, self._start_of(number))))
            except (ProblemError, GeometryError) as error:
                raise InputError(f"window {number + 1} of problem.slabs: {error}") from error
        self.samples = self.windows[0].samples
        self._shares: dict[Holding, PinnLoss] = {}
        self.take(SlabState(0, torch.zeros_like(self.state.thetas)))

    def _start_of(self, number: int) -> Callable[[], Start]:
        """What a window begins with, once the one before it has ended."""
        time = self.bounds[number][0]
        before = number - 1

        def make() -> Start:
            state = self.state
            digest = None if self._in_torch else state.digests[before]
            return Start(self.windows[before], state.thetas[before], time, digest)

        return make

    def take(self, state: SlabState) -> None:
        """Makes the loss that of the state's window."""
        self.windows[self.state.window].lend({})
        self.state = state
        problem = self.windows[state.window]
        for holding, share in self._shares.items():
            problem.renew(share, problem.terms, holding)
        problem.lend(self._shares)

    @property
    def cautions(self) -> tuple[str, ...]:
        return self.windows[0].cautions

    @property
    def layers(self) -> list[LayerRange]:
        return self.windows[0].layers

    def make_initial_parameters(self, seed: int) -> Tensor:
        return self.windows[0].make_initial_parameters(seed)

    def share(self, chunks: int, rank: int, ranks: int, threads: int) -> PinnLoss:
        """The loss of the window in training, one for all that ask; it changes with the window."""
        key = Holding(chunks, rank, ranks, threads)
        if key not in self._shares:
            problem = self.windows[self.state.window]
            self._shares[key] = problem.make_share(problem.terms, key)
            problem.lend(self._shares)
        return self._shares[key]

    def locate_not_finite(
        self, theta: Tensor, communicator: Communicator, chunks: int, threads: int
    ) -> str:
        window = self.windows[self.state.window]
        return window.locate_not_finite(theta, communicator, chunks, threads)

    def describe(self) -> str:
        times = ", ".join(f"{low:g}" for low, _ in self.bounds)
        return (
            f"{self.windows[0].describe()}, in each of {len(self.bounds)} windows of time"
            f" ({times} to {self.bounds[-1][1]:g})"
        )

    def make_monitor(self, communicator: Communicator, chunks: int, threads: int) -> SlabMonitor:
        return SlabMonitor(self, communicator, chunks, threads)

    def make_renewal(self, objective: Objective, seed: int) -> "SlabRenewal":
        """What makes the loss that of the next window."""
        return SlabRenewal(self, objective.communicator)

    def list_parameters(self, theta: Tensor) -> list[Tensor]:
        """θ (n,) of each window that has begun, `theta` being that of the one in training."""
        return [*self.state.thetas[: self.state.window], theta]

    def join_parameters(self, theta: Tensor) -> Tensor:
        """θ of all windows, one after the other (K n,); NaN for those that have not begun."""
        known = self.list_parameters(theta)
        missing = torch.full_like(theta, torch.nan)
        return torch.cat([*known, *[missing] * (len(self.bounds) - len(known))])

    def advance(self, theta: Tensor) -> None:
        """Goes on to the next window; the one in training has ended with θ (n,)."""
        thetas = self.state.thetas.clone()
        thetas[self.state.window] = theta
        self.take(SlabState(self.state.window + 1, thetas))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """What a point of the solution has: coordinates, then inputs."""
        return self.windows[0].coordinates

    @property
    def outputs(self) -> tuple[str, ...]:
        """The fields, then the quantities."""
        return self.windows[0].outputs

    def find_outside(self, points: Tensor) -> Tensor:
        """Which of some points (d, N) lie outside of all windows, (N,)."""
        inside = self._find_window(points)
        outside = torch.zeros_like(inside, dtype=torch.bool)
        for number, window in enumerate(self.windows):
            own = inside == number
            outside[own] = window.find_outside(points[:, own])
        return outside

    def evaluate(
        self, theta: Tensor, points: Tensor, names: Sequence[str], threads: int
    ) -> dict[str, Tensor]:
        """As `PinnProblem.evaluate`, of θ (K n,) of all windows, each point by that of its time.

        Raises:
            InputError: a point is in a window that the run did not come to.
        """
        return self._evaluate_windows(
            theta,
            points,
            lambda window, own, inside: window.evaluate(own, inside, names, threads),
        )

    def evaluate_residuals(self, theta: Tensor, points: Tensor, threads: int) -> dict[str, Tensor]:
        """As `PinnProblem.evaluate_residuals`, of θ (K n,) of all windows."""
        return self._evaluate_windows(
            theta,
            points,
            lambda window, own, inside: window.evaluate_residuals(own, inside, threads),
        )

    def evaluate_references(self, points: Tensor) -> dict[str, Tensor]:
        """Evaluates the true fields and quantities (N,) at points (d, N), those that are known."""
        return evaluate_references(self.equations, self.outputs, points)

    @property
    def first_points(self) -> Tensor:
        """The equation's points (d, N) at the start, of all windows."""
        return torch.cat([window.first_points for window in self.windows], dim=1)

    @contextmanager
    def holding(self, theta: Tensor, *, in_torch: bool = False) -> Iterator[Tensor]:
        """Lets each window begin with what the one before it has by θ (K n,); gives θ (K, n).

        Args:
            in_torch: by torch's operations alone.
        """
        by_window = theta.reshape(len(self.bounds), -1)
        training = self.state
        self.state, self._in_torch = SlabState(len(self.bounds) - 1, by_window), in_torch
        try:
            yield by_window
        finally:
            self.state, self._in_torch = training, False

    def _evaluate_windows(
        self,
        theta: Tensor,
        points: Tensor,
        evaluate: Callable[[PinnProblem, Tensor, Tensor], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Evaluates values by name at points (d, N), each by the window of its time."""
        own = self._find_window(points)
        found: dict[str, Tensor] = {}
        with self.holding(theta) as by_window:
            for number, window in enumerate(self.windows):
                places = torch.nonzero(own == number)[:, 0]
                if not len(places):
                    continue
                self.check_reached(number, by_window)
                for name, each in evaluate(window, by_window[number], points[:, places]).items():
                    whole = found.setdefault(name, each.new_empty(points.shape[1]))
                    whole[places] = each
        return found

    @property
    def begins_with_rates(self) -> bool:
        """Whether the forms of later windows have derivatives of the network before them."""
        later = self.windows[-1]
        conditions = later.equations.named_conditions.values()
        rates = [
            split_name(name)[0]
            for condition in conditions
            if isinstance(condition, Initial)
            for name in condition.values
            if split_name(name)[1]
        ]
        return len(self.windows) > 1 and any(field in later.forms for field in rates)

    def check_reached(self, number: int, by_window: Tensor) -> None:
        """Raises an InputError where the run has no parameters (K, n) of a window, from 0."""
        if not bool(by_window[number].isfinite().all()):
            low, high = self.bounds[number]
            raise InputError(f"the run has not come to the window of t from {low:g} to {high:g}")

    def _find_window(self, points: Tensor) -> Tensor:
        """The window (N,) of each point, by its time; a time between two belongs to the earlier."""
        ends = points.new_tensor([high for _, high in self.bounds[:-1]])
        return torch.searchsorted(ends, points[0].contiguous())


class SlabRenewal:
    """See `problems.base.Renewal`; the loss changes where the stages of a window have ended."""

    columns = ("slab",)

    def __init__(self, problem: SlabProblem, communicator: Communicator) -> None:
        self._problem, self._communicator = problem, communicator

    @property
    def state(self) -> SlabState:
        return self._problem.state

    def list_values(self) -> dict[str, float]:
        """The window in training, from 1."""
        return {"slab": self._problem.state.window + 1}

    def is_due(self, iteration: int) -> bool:
        """Windows do not end by their iterations."""
        return False

    def renew(self, theta: Tensor, iteration: int) -> None:
        """Goes on to the next window."""
        self._communicator.run_on_all(lambda: self._problem.advance(theta))

    def guard(self, iteration: int, before: float, point: Point) -> None:
        """Nothing is due, so nothing is guarded."""

    def take(self, state: SlabState) -> None:
        self._communicator.run_on_all(lambda: self._problem.take(state))

    def describe(self) -> list[str]:
        return [
            "windows of time one after the other, each from the parameters and the values with"
            " which the one before it ended"
        ]
