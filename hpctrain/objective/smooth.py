"""A function of θ as a line search, a trust region or a quasi-Newton method sees it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hpctrain.objective.counts import Counts
from hpctrain.parallel.communicator import Communicator


class Smooth(Protocol):
    """What a line search, a trust region or a quasi-Newton method needs of a function of θ (n,)."""

    parameters: int
    dtype: torch.dtype
    communicator: Communicator
    counts: Counts

    def evaluate(self, theta: Tensor) -> "Evaluation":
        """Evaluates the value at θ (n,); the gradient there costs an evaluation more."""

    def evaluate_with_gradient(self, theta: Tensor) -> "Evaluation":
        """Evaluates the value and the gradient at θ (n,) together."""

    def multiply_hessian(self, theta: Tensor, v: Tensor) -> Tensor:
        """Multiplies the Hessian at θ (n,) by v (n,)."""


class Evaluation:
    """The loss at one θ, and its gradient where it is evaluated too."""

    def __init__(
        self, objective: Smooth, theta: Tensor, loss: float, gradient: Tensor | None = None
    ) -> None:
        self.theta = theta
        self.loss = loss
        self._objective = objective
        self._gradient = gradient

    def evaluate_gradient(self) -> Tensor:
        """∇L(θ) (n,), evaluated by the first call unless it was with the loss; collective."""
        if self._gradient is None:
            self._gradient = self._objective.evaluate_with_gradient(self.theta).evaluate_gradient()
        return self._gradient


@dataclass
class Point:
    """θ (n,) with the loss and the gradient (n,) there."""

    theta: Tensor
    loss: float
    gradient: Tensor


def evaluate_point(objective: Smooth, theta: Tensor) -> Point:
    """Evaluates L and ∇L at θ (n,) together; collective."""
    return complete_point(objective.evaluate_with_gradient(theta))


def complete_point(evaluation: Evaluation) -> Point:
    """The point of an evaluation, whose gradient is evaluated if it was not; collective."""
    return Point(evaluation.theta, evaluation.loss, evaluation.evaluate_gradient())
