"""A solver as an optimiser of torch, whose loss is what a closure computes."""

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from hpctrain.errors import InputError, RunError
from hpctrain.job.solver_options import check_options
from hpctrain.linalg.arrays import to_array
from hpctrain.objective import Objective, Point, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.launch import make_world
from hpctrain.solvers.base import Setting, Solver
from hpctrain.store.state import RowBlock, flatten, unflatten
from hpctrain.torch.closure import Closure, ClosureSource

# Of the keys of a state dict: the method with its options, and the solver's state by leaves.
METHOD, SOLVER = "method", "solver"


class Group(dict[str, Any]):
    """A group of parameters, which has no learning rate to be set."""

    def __missing__(self, key: str) -> Any:
        if key == "lr":
            raise InputError(
                "there is no lr to schedule: optimisers of hpctrain.torch find their step lengths"
            )
        raise KeyError(key)


class SolverOptimizer(torch.optim.Optimizer):
    """An optimiser that makes the iterations of a solver; a step is collective on its ranks.

    The parameters must be equal on all ranks, and stay so.

    Args:
        params: parameters of one type on one device, or groups of them.
        max_iter: iterations of the method in a step, at most.
        communicator: the ranks whose losses are averaged: a communicator of mpi4py; by default all
            of the program. MPI.COMM_SELF leaves each rank alone.
        samples: of which this rank's loss is the mean, its weight among the ranks.
        options: settings of the method, as a job's [solver] has them.

    Raises:
        InputError: an option or a parameter is not allowed.

    Attributes:
        solver_class: the method.
        solver_name: its name in a job.
        takes_groups: whether there may be several groups of parameters.
    """

    solver_class: ClassVar[type[Solver[Any]]]
    solver_name: ClassVar[str]
    takes_groups: ClassVar[bool] = False

    def __init__(
        self,
        params: Any,
        *,
        max_iter: int = 20,
        communicator: Any = None,
        samples: int = 1,
        **options: Any,
    ) -> None:
        self._is_made = False
        for name, value in (("max_iter", max_iter), ("samples", samples)):
            if not (isinstance(value, int) and value >= 1):
                raise InputError(f"{name} = {value!r} is not allowed: an integer, at least 1")
        super().__init__(params, {"max_iter": max_iter})
        ranks = communicator if isinstance(communicator, Communicator) else None
        if ranks is None:
            ranks = make_world() if communicator is None else Communicator(communicator)
        self._make(ranks, samples, self._complete_options(options))

    def _complete_options(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options with what follows from the groups of parameters."""
        return given

    def _make(self, ranks: Communicator, samples: int, given: Mapping[str, Any]) -> None:
        """Makes the solver; collective."""
        self.param_groups = [Group(group) for group in self.param_groups]
        groups = [group["params"] for group in self.param_groups]
        self._check_parameters(groups)
        self._options = check_options(
            self.solver_class, self.solver_name, given, type(self).__name__
        )
        source = ClosureSource(groups, ranks, samples)
        self._loss = source.loss
        self._objective = Objective.of(source, ranks, source.chunks, torch.get_num_threads())
        self._solver = self.solver_class(Setting(self._objective), self._options)
        self._state: Any = None
        self._kept: Mapping[str, Any] = {}  # of a state that was loaded, until the next step
        self._is_made = True

    def _check_parameters(self, groups: Iterable[Iterable[Tensor]]) -> None:
        name = type(self).__name__
        if len(self.param_groups) > 1 and not self.takes_groups:
            raise InputError(f"{name} takes one group of parameters, not {len(self.param_groups)}")
        kinds = {(tensor.dtype, tensor.device) for group in groups for tensor in group}
        allowed = {torch.float32, torch.float64}
        if len(kinds) > 1 or {dtype for dtype, _ in kinds} - allowed:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise InputError(
                f"{name}: parameters are {found}: they must be all float64 or all float32, on one"
                " device"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuses parameters that come later, of which the solver's memory knows nothing.

        Raises:
            InputError: always, once the optimiser is made.
        """
        if getattr(self, "_is_made", False):
            raise InputError(
                f"{type(self).__name__} cannot take further parameters: what it has learnt is of"
                " those that it began with; make a new optimiser"
            )
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """Makes up to `max_iter` iterations, until nothing is left to try; collective.

        Where the closure is another one than that of the step before, or the parameters were
        changed, the method's memory goes on with the new loss.

        Args:
            closure: computes loss and gradients where the parameters are.

        Returns:
            The loss at the beginning, over all ranks.

        Raises:
            RunError: it is NaN or infinite there, or the gradient is; the parameters are unchanged.
            InputError: there is no closure, it does not do what it must, or the parameters are not
                the same on all ranks.
        """
        if closure is None:
            raise InputError("step needs a closure: it computes the loss, and calls backward on it")
        theta = self._loss.read()
        self._check_ranks_agree(theta)
        with self._loss.call(closure):
            try:
                first = evaluate_point(self._objective, theta)
                _check_finite(first)
                state = self._iterate(self._begin(first))
            except BaseException:
                self._loss.write(theta)
                raise
        self._state, self._kept = state, {}
        self._loss.write(state.point.theta)
        self._loss.write_gradient(state.point.gradient)
        return theta.new_tensor(first.loss)

    def _begin(self, first: Point) -> Any:
        """The solver's state at the point where the step begins."""
        state = self._state
        if state is None or self._kept:
            state = self._solver.init(first.theta)
        if self._kept:
            state = unflatten(state, {path: _unpack(leaf) for path, leaf in self._kept.items()})
        if _are_equal(state.point, first):
            return state
        moved = replace(state.point, theta=first.theta)
        return self._solver.renew(replace(state, point=moved))

    def _iterate(self, state: Any) -> Any:
        for _ in range(self.param_groups[0]["max_iter"]):
            state, record = self._solver.step(state)
            if record.outcome.is_final or record.gradient_norm == 0:
                break
        return state

    def _check_ranks_agree(self, theta: Tensor) -> None:
        ranks = self._objective.communicator
        own = zlib.crc32(to_array(theta).tobytes())
        greatest, least = ranks.find_maximum([own, -own])
        if greatest != -least:
            raise InputError(
                "the parameters are not the same on all ranks: make them with one seed, or"
                " broadcast them from one rank"
            )

    def state_dict(self) -> dict[str, Any]:
        """All that a later process needs to go on with the same bits; of each rank its own."""
        packed = super().state_dict()
        packed[METHOD], packed[SOLVER] = self._options.model_dump(), self._pack()
        return packed

    def _pack(self) -> dict[str, Any]:
        if self._kept or self._state is None:
            return dict(self._kept)
        return {leaf.path: _pack(leaf.value) for leaf in flatten(self._state)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on, with the next step, from where another optimiser was.

        Raises:
            InputError: it was another method, or had other options.
        """
        method, own = state_dict.get(METHOD), self._options.model_dump()
        if method != own:
            raise InputError(
                f"{type(self).__name__}: the state is of another method, or of other options:"
                f" {method}, not {own}"
            )
        super().load_state_dict({**state_dict, "state": {}})
        self._state, self._kept = None, dict(state_dict[SOLVER])

    def __getstate__(self) -> dict[str, Any]:
        if self._objective.communicator.size > 1:
            raise TypeError("an optimiser of several ranks is not pickled: keep its state_dict()")
        options = self._options.model_dump(exclude={"name"})
        return {**super().__getstate__(), SOLVER: self._pack(), METHOD: options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {name: value for name, value in state.items() if name not in (METHOD, SOLVER)}
        super().__setstate__(own)
        self.param_groups = [Group(group) for group in self.param_groups]
        if METHOD in state:  # not from `load_state_dict`
            self._make(Communicator(), 1, state[METHOD])
            self._kept = state[SOLVER]


def _check_finite(point: Point) -> None:
    if not (math.isfinite(point.loss) and bool(point.gradient.isfinite().all())):
        raise RunError(
            f"the loss ({point.loss:g}) or its gradient is not finite where the step begins: the"
            " parameters are left as they are"
        )


def _are_equal(x: Point, y: Point) -> bool:
    is_near = x.loss == y.loss and torch.equal(x.theta, y.theta)
    return is_near and torch.equal(x.gradient, y.gradient)


def _pack(value: Any) -> Any:
    """A leaf of a state, of types that `torch.load` takes without running code."""
    return dict(vars(value)) if isinstance(value, RowBlock) else value


def _unpack(value: Any) -> Any:
    return RowBlock(**value) if isinstance(value, dict) else value
