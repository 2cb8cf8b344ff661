"""First-order training on all samples or on mini-batches: gradient descent with momentum, Adam.

A step goes along the gradient of the batch that its state was evaluated on, and evaluates the next
one: a loss is recorded before the parameters have seen its samples. With a decay (`methods.decay`)
the α of step t is its factor times the learning rate.
"""

from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.linalg.vectors import norm
from hpctrain.methods.decay import DecayOptions
from hpctrain.methods.sampling.mini_batches import make_mini_batches
from hpctrain.objective import Point, evaluate_point
from hpctrain.solvers.base import Record, Setting, Solver


class _FirstOrderOptions(DecayOptions):
    batch_size: int | None = Field(
        None, ge=1, description="samples of a mini-batch; by default all are in every step"
    )


class SGDOptions(_FirstOrderOptions):
    """Settings of gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(1e-3, gt=0, description="length of a step along the velocity, α")
    momentum: float = Field(0.9, ge=0, lt=1, description="weight of the past, μ; 0 is none")


class AdamOptions(_FirstOrderOptions):
    """Settings of Adam."""

    name: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, description="α")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the gradient's mean")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the squared gradient's mean")
    epsilon: float = Field(1e-8, gt=0, description="added to the root in the denominator")


@dataclass
class SGDState:
    """θ and the velocity v (n,), and the steps t so far."""

    point: Point
    v: Tensor
    t: int = 0


@dataclass
class AdamState:
    """θ, the means m and v (n,) of the gradient and of its square, and the steps t so far."""

    point: Point
    m: Tensor
    v: Tensor
    t: int = 0


State = TypeVar("State", SGDState, AdamState)


class _FirstOrder(Solver[State], Generic[State]):
    """What goes through the mini-batches."""

    @classmethod
    def takes_batches(cls, options: Any) -> bool:
        return options.batch_size is not None

    def __init__(self, setting: Setting, options: Any) -> None:
        super().__init__(setting, options)
        self._batches = make_mini_batches(setting.objective, setting.seed, options.batch_size)

    def _evaluate(self, theta: Tensor, t: int) -> Point:
        """The loss and the gradient on the batch of step t."""
        return evaluate_point(self._batches.make_objective(self.setting.objective, t), theta)

    def renew(self, state: State) -> State:
        with self.setting.timer.phase("global"):
            return replace(state, point=self._evaluate(state.point.theta, state.t))

    def _record(self, state: State) -> Record:
        """One gradient a step, and one update of vectors as long as θ, counted as a memory's."""
        point, t = state.point, state.t
        rate, outcome = self._find_rate(t - 1), self.options.name_outcome(t - 1)
        epoch, at_end = self._batches.count_epochs(t), self._batches.ends_epoch(t)
        g = norm(point.gradient)
        return Record(point.loss, g, rate, 1, 1, outcome, epoch, at_end)

    def _find_rate(self, t: int) -> float:
        """α of step t, from 0."""
        return self.options.learning_rate * self.options.find_factor(t)

    def _describe(self, method: str) -> list[str]:
        has_batches = self.options.batch_size is not None
        batches: list[str] = [self._batches.describe()] if has_batches else []
        return [method, *self.options.describe_decay(), *batches]


class SGD(_FirstOrder[SGDState]):
    """Gradient descent with momentum.

        v ← μ v + ∇L(θ);  θ ← θ - α v

    Source: Polyak, USSR Computational Mathematics and Mathematical Physics 4(5), 1964.
    """

    names = ("sgd",)
    Options = SGDOptions

    def init(self, theta: Tensor) -> SGDState:
        with self.setting.timer.phase("global"):
            return SGDState(self._evaluate(theta, 0), torch.zeros_like(theta))

    def step(self, state: SGDState) -> tuple[SGDState, Record]:
        o = self.options
        with self.setting.timer.phase("global"):
            v = o.momentum * state.v + state.point.gradient
            theta = state.point.theta - self._find_rate(state.t) * v
            t = state.t + 1
            new = SGDState(self._evaluate(theta, t), v, t)
            return new, self._record(new)

    def describe(self) -> list[str]:
        o = self.options
        rates = f"learning rate {o.learning_rate:g}, momentum {o.momentum:g}"
        return self._describe(f"gradient descent, {rates}")


class Adam(_FirstOrder[AdamState]):
    """Adam.

        t ← t + 1;  m ← β₁ m + (1-β₁) g;  v ← β₂ v + (1-β₂) g²,  g = ∇L(θ)
        m̂ = m / (1-β₁ᵗ);  v̂ = v / (1-β₂ᵗ);  θ ← θ - α m̂ / (√v̂ + ε)

    Source: Kingma and Ba, ICLR 2015, arXiv 1412.6980, algorithm 1.
    """

    names = ("adam",)
    Options = AdamOptions

    def init(self, theta: Tensor) -> AdamState:
        m, v = torch.zeros_like(theta), torch.zeros_like(theta)
        with self.setting.timer.phase("global"):
            return AdamState(self._evaluate(theta, 0), m, v)

    def step(self, state: AdamState) -> tuple[AdamState, Record]:
        o, g = self.options, state.point.gradient
        with self.setting.timer.phase("global"):
            t = state.t + 1
            m = o.beta1 * state.m + (1 - o.beta1) * g
            v = o.beta2 * state.v + (1 - o.beta2) * g * g
            m_hat = m / (1 - o.beta1**t)
            v_hat = v / (1 - o.beta2**t)
            rate = self._find_rate(state.t)
            theta = state.point.theta - rate * m_hat / (v_hat.sqrt() + o.epsilon)
            new = AdamState(self._evaluate(theta, t), m, v, t)
            return new, self._record(new)

    def describe(self) -> list[str]:
        o = self.options
        betas = f"beta {o.beta1:g} and {o.beta2:g}, epsilon {o.epsilon:g}"
        return self._describe(f"Adam, learning rate {o.learning_rate:g}, {betas}")
