"""L-BFGS as torch has it: a peer from outside, on the same objective and counted the same way."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.update_cost import count_pairs
from hpctrain.objective import Objective, Point, evaluate_point
from hpctrain.options import Options
from hpctrain.solvers.base import Record, Setting, Solver

# torch's default for a line search where nothing else limits it.
TRIALS = 25


class TorchLBFGSOptions(Options):
    """Settings of torch.optim.LBFGS."""

    name: Literal["torch-lbfgs"] = "torch-lbfgs"
    history_size: int = Field(100, ge=1, description="secant pairs kept")


@dataclass
class Memory:
    """What torch.optim.LBFGS keeps from one iteration to the next, under its own names.

    `old_dirs` are the y, `old_stps` the s, `ro` the 1 / sᵀy of the secant pairs; `d` and `t` the
    last direction and step length, `prev_flat_grad` the gradient they started from. torch also
    keeps the buffer `al`, whose content it never reads again.
    """

    n_iter: int = 0
    func_evals: int = 0
    d: Tensor | None = None
    t: float | None = None
    old_dirs: list[Tensor] = field(default_factory=list)
    old_stps: list[Tensor] = field(default_factory=list)
    ro: list[float] = field(default_factory=list)
    H_diag: float | None = None
    prev_flat_grad: Tensor | None = None
    prev_loss: float | None = None

    def to_torch(self) -> dict[str, Any]:
        """A parameter's state as torch wants it; what torch overwrites is copied."""
        grad = self.prev_flat_grad
        return vars(self) | {
            "old_dirs": list(self.old_dirs),
            "old_stps": list(self.old_stps),
            "ro": list(self.ro),
            "prev_flat_grad": None if grad is None else grad.clone(),
        }

    @classmethod
    def from_torch(cls, state: dict[str, Any]) -> "Memory":
        kept = {name: value for name, value in state.items() if name != "al"}
        numbers = {name: _read_number(kept.get(name)) for name in ("t", "H_diag", "prev_loss")}
        return cls(**kept | numbers | {"ro": [float(value) for value in kept["ro"]]})


@dataclass
class TorchLBFGSState:
    """θ and torch's memory."""

    point: Point
    memory: Memory = field(default_factory=Memory)


class TorchLBFGS(Solver[TorchLBFGSState]):
    """torch.optim.LBFGS with its strong Wolfe search, one of its iterations a step.

    A step is torch's `step` with `max_iter = 1`, at most 25 trials and both tolerances 0, so that
    the runner alone decides when to stop. torch evaluates the gradient at the start of each `step`
    again; the one that is known is handed to it, so that the evaluations counted are those of one
    long call of torch's. All of torch's memory is in the state, so a run that goes on from a
    checkpoint takes the same steps. Where torch finds no lower loss it would repeat itself: that
    is a stall.

    Every rank runs torch's iteration on its own copies, with torch's inner products, whose bits may
    depend on torch's threads where n is large. With the native kernels torch has one thread, and
    ranks and threads do not change the iterates. With the torch kernels all ranks must have the
    same number of threads, and other numbers agree to round-off.
    """

    names = ("torch-lbfgs",)
    Options = TorchLBFGSOptions

    def __init__(self, setting: Setting, options: TorchLBFGSOptions) -> None:
        super().__init__(setting, options)
        # A workspace: each step puts its θ and memory in, and takes them out again.
        L = setting.objective
        self._theta = torch.zeros(L.parameters, dtype=L.dtype, device=L.device)
        self._optimizer = torch.optim.LBFGS(
            [self._theta],
            max_iter=1,
            max_eval=1 + TRIALS,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=options.history_size,
            line_search_fn="strong_wolfe",
        )

    def init(self, theta: Tensor) -> TorchLBFGSState:
        with self.setting.timer.phase("global"):
            return TorchLBFGSState(evaluate_point(self.setting.objective, theta))

    def step(self, state: TorchLBFGSState) -> tuple[TorchLBFGSState, Record]:
        with self.setting.timer.phase("global"):
            old = state.point
            trials = _Trials(self.setting.objective, self._theta, old)
            kept = self._optimizer.state[self._theta]
            kept.clear()
            kept.update(state.memory.to_torch())
            self._optimizer.step(trials.evaluate)
            new, memory = trials.find_reached(), Memory.from_torch(kept)
        outcome = Outcome.ACCEPTED if new.loss < old.loss else Outcome.NO_LOWER_LOSS
        step_length = 0.0 if outcome.is_final else memory.t or 0.0
        update_cost = count_pairs(self.options.history_size)
        record = Record(new.loss, norm(new.gradient), step_length, 1, update_cost, outcome)
        return TorchLBFGSState(new, memory), record

    def renew(self, state: TorchLBFGSState) -> TorchLBFGSState:
        """Evaluates the point of the step before, too: torch has its secant pair still to make."""
        memory, objective = state.memory, self.setting.objective
        with self.setting.timer.phase("global"):
            point = evaluate_point(objective, state.point.theta)
            if memory.d is None or memory.t is None:
                return TorchLBFGSState(point, memory)
            before = evaluate_point(objective, point.theta - memory.t * memory.d)
        renewed = replace(memory, prev_flat_grad=before.gradient, prev_loss=before.loss)
        return TorchLBFGSState(point, renewed)

    def go_back(self, state: TorchLBFGSState, theta: Tensor) -> TorchLBFGSState:
        return self.init(theta)

    def describe(self) -> list[str]:
        return [
            f"torch.optim.LBFGS of torch {torch.__version__}, {self.options.history_size}"
            f" secant pairs, strong Wolfe line search, at most {TRIALS} trials"
        ]


class _Trials:
    """The parameter that torch moves, and all evaluations of one step, the first known before."""

    def __init__(self, objective: Objective, theta: Tensor, start: Point) -> None:
        self._objective = objective
        self._theta = theta.copy_(start.theta)
        self._known = [start]

    def evaluate(self) -> float:
        """torch's closure: the loss where the parameter stands, the gradient into `.grad`."""
        here = self._find() or evaluate_point(self._objective, self._theta.clone())
        self._known.append(here)
        self._theta.grad = here.gradient
        return here.loss

    def find_reached(self) -> Point:
        """Where torch left the parameter: at the best of its trials, or where it started."""
        here = self._find()
        assert here is not None, "torch leaves the parameter where it evaluated it"
        return here

    def _find(self) -> Point | None:
        here = self._theta
        return next((e for e in self._known if _are_equal(e.theta, here)), None)


def _are_equal(x: Tensor, y: Tensor) -> bool:
    """Whether all components are the same, NaN included: a search may end there."""
    return torch.allclose(x, y, rtol=0, atol=0, equal_nan=True)


def _read_number(value: Any) -> float | None:
    """torch keeps some numbers as tensors of no dimension."""
    return None if value is None else float(value)
