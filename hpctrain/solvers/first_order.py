"""First-order training on the full batch: gradient descent with momentum, and Adam."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.options import Options
from hpctrain.solvers.base import Point, Record, Solver, evaluate
from hpctrain.vectors import norm


class SGDOptions(Options):
    """Settings of gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(1e-3, gt=0, description="length of a step along the velocity, α")
    momentum: float = Field(0.9, ge=0, lt=1, description="weight of the past, μ; 0 is none")


class AdamOptions(Options):
    """Settings of Adam."""

    name: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, description="α")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the gradient's mean")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the squared gradient's mean")
    epsilon: float = Field(1e-8, gt=0, description="added to the root in the denominator")


@dataclass
class SGDState:
    """θ and the velocity v (n,)."""

    point: Point
    v: Tensor


@dataclass
class AdamState:
    """θ, the means m and v (n,) of the gradient and of its square, and the steps t so far."""

    point: Point
    m: Tensor
    v: Tensor
    t: int = 0


class SGD(Solver[SGDState]):
    """Gradient descent with momentum; all samples in every step, so nothing is random.

        v ← μ v + ∇L(θ);  θ ← θ - α v

    Source: Polyak, USSR Computational Mathematics and Mathematical Physics 4(5), 1964.
    """

    def init(self, theta: Tensor) -> SGDState:
        with self.setting.timer.phase("global"):
            return SGDState(evaluate(self.setting.objective, theta), torch.zeros_like(theta))

    def step(self, state: SGDState) -> tuple[SGDState, Record]:
        o = self.options
        with self.setting.timer.phase("global"):
            v = o.momentum * state.v + state.point.gradient
            theta = state.point.theta - o.learning_rate * v
            point = evaluate(self.setting.objective, theta)
            return SGDState(point, v), _record(point, o)

    def describe(self) -> list[str]:
        o = self.options
        return [f"gradient descent, learning rate {o.learning_rate:g}, momentum {o.momentum:g}"]


class Adam(Solver[AdamState]):
    """Adam; all samples in every step, so nothing is random.

        t ← t + 1;  m ← β₁ m + (1-β₁) g;  v ← β₂ v + (1-β₂) g²,  g = ∇L(θ)
        m̂ = m / (1-β₁ᵗ);  v̂ = v / (1-β₂ᵗ);  θ ← θ - α m̂ / (√v̂ + ε)

    Source: Kingma and Ba, ICLR 2015, arXiv 1412.6980, algorithm 1.
    """

    def init(self, theta: Tensor) -> AdamState:
        m, v = torch.zeros_like(theta), torch.zeros_like(theta)
        with self.setting.timer.phase("global"):
            return AdamState(evaluate(self.setting.objective, theta), m, v)

    def step(self, state: AdamState) -> tuple[AdamState, Record]:
        o, g = self.options, state.point.gradient
        with self.setting.timer.phase("global"):
            t = state.t + 1
            m = o.beta1 * state.m + (1 - o.beta1) * g
            v = o.beta2 * state.v + (1 - o.beta2) * g * g
            m_hat = m / (1 - o.beta1**t)
            v_hat = v / (1 - o.beta2**t)
            theta = state.point.theta - o.learning_rate * m_hat / (v_hat.sqrt() + o.epsilon)
            point = evaluate(self.setting.objective, theta)
            return AdamState(point, m, v, t), _record(point, o)

    def describe(self) -> list[str]:
        o = self.options
        betas = f"beta {o.beta1:g} and {o.beta2:g}, epsilon {o.epsilon:g}"
        return [f"Adam, learning rate {o.learning_rate:g}, {betas}"]


def _record(point: Point, options: Any) -> Record:
    """One gradient a step, and one update of vectors as long as θ, counted as a memory's."""
    return Record(point.loss, norm(point.gradient), options.learning_rate, 1, 1)
