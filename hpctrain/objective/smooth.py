"""What line searches, trust regions and quasi-Newton methods ask of a function of θ."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import Region
from hpctrain.objective.counts import Counts
from hpctrain.parallel.communicator import Communicator


class Smooth(Protocol):
    """A differentiable function of θ (n,), such as an `Objective` or a `Corrected` one."""

    parameters: int
    dtype: torch.dtype
    communicator: Communicator
    counts: Counts

    def evaluate(self, theta: Tensor) -> "Evaluation":
        """Evaluates the function at θ (n,). Its gradient there can be asked of the result later."""

    def evaluate_with_gradient(self, theta: Tensor) -> "Evaluation":
        """Evaluates the function and its gradient at θ (n,) together, which saves a pass."""

    def multiply_hessian(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes the product (n,) of the Hessian at θ (n,) with a vector v (n,)."""


class Evaluation:
    """The loss at one θ, and the gradient there once it has been evaluated.

    Args:
        objective: the function.
        theta: θ (n,).
        loss: its value there.
        gradient: its gradient (n,) there, where it is known already.
    """

    def __init__(
        self, objective: Smooth, theta: Tensor, loss: float, gradient: Tensor | None = None
    ) -> None:
        self.theta = theta
        self.loss = loss
        self._objective = objective
        self._gradient = gradient

    def evaluate_gradient(self) -> Tensor:
        """Returns ∇L(θ) (n,), which the first call evaluates if need be; collective."""
        if self._gradient is None:
            self._gradient = self._objective.evaluate_with_gradient(self.theta).evaluate_gradient()
        return self._gradient


@dataclass
class Point:
    """A parameter vector θ (n,), with the loss and the gradient (n,) there."""

    theta: Tensor
    loss: float
    gradient: Tensor

    def restrict(self, region: Region) -> "Point":
        """Returns R θ with L and R ∇L there: the start of a local solve, for no evaluation."""
        theta, gradient = region.restrict(self.theta), region.restrict(self.gradient)
        return Point(theta.clone(), self.loss, gradient.clone())


def evaluate_point(objective: Smooth, theta: Tensor) -> Point:
    """Evaluates L and ∇L at θ (n,) together; collective."""
    return complete_point(objective.evaluate_with_gradient(theta))


def complete_point(evaluation: Evaluation) -> Point:
    """Makes a point of an evaluation, with its gradient evaluated if need be; collective."""
    return Point(evaluation.theta, evaluation.loss, evaluation.evaluate_gradient())
