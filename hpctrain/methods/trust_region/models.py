"""Models of the loss in a trust region: where the B of m(s) comes from, and what it learns.

    m(s) = L(θ) + gᵀs + ½ sᵀBs
    linear (order 1): B = 0;   L-SR1 (order 2): B learns from every trial;   Hessian: B = ∇²L(θ)

Source: Nocedal and Wright, Numerical Optimization (2006), chapter 4 and algorithm 6.2 (SR1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.subproblem import Curvature, Norm
from hpctrain.objective import Evaluation, Smooth

# θ ↦ L(θ), with or without ∇L(θ) in the same pass.
Evaluate = Callable[[Tensor], Evaluation]


class Model(Protocol):
    """Gives B at a point, and learns from trial steps.

    Attributes:
        learns: from every trial, whose gradient is therefore evaluated in any case.
    """

    @property
    def learns(self) -> bool: ...

    def make_curvature(self, objective: Smooth, theta: Tensor, pairs: LSR1) -> Curvature:
        """B at θ (n,), from what was learnt so far."""

    def choose_evaluation(self, objective: Smooth, gradient_likely: bool) -> Evaluate:
        """How trials are evaluated: with the gradient in the same pass, or by the loss alone.

        Args:
            gradient_likely: the caller will most likely ask for the gradient at the trial.
        """

    def learn(self, pairs: LSR1, s: Tensor, change: Callable[[], Tensor]) -> LSR1:
        """The pairs after a trial s (n,); `change` gives the y (n,) of its gradients, if asked."""

    def describe(self, norm: Norm, cg_iterations: int) -> str:
        """The model and its minimiser in a few words.

        Args:
            norm, cg_iterations: as in `step.TrialRule`.
        """


class FixedModel:
    """A model that learns nothing from trials."""

    learns: ClassVar[bool] = False

    def choose_evaluation(self, objective: Smooth, gradient_likely: bool) -> Evaluate:
        return objective.evaluate_with_gradient if gradient_likely else objective.evaluate

    def learn(self, pairs: LSR1, s: Tensor, change: Callable[[], Tensor]) -> LSR1:
        return pairs


@dataclass(frozen=True)
class LinearModel(FixedModel):
    """B = 0."""

    def make_curvature(self, objective: Smooth, theta: Tensor, pairs: LSR1) -> Curvature:
        return None

    def describe(self, norm: Norm, cg_iterations: int) -> str:
        return "linear model"


@dataclass(frozen=True)
class HessianModel(FixedModel):
    """B = ∇²L(θ), by its products."""

    def make_curvature(self, objective: Smooth, theta: Tensor, pairs: LSR1) -> Curvature:
        return lambda v: objective.multiply_hessian(theta, v)

    def describe(self, norm: Norm, cg_iterations: int) -> str:
        return f"exact Hessian, at most {cg_iterations} conjugate gradients"


@dataclass(frozen=True)
class LSR1Model:
    """B by L-SR1 of at most `memory` secant pairs.

    Trials are evaluated with their gradients: B learns from refused steps too. It was wrong there,
    and would propose them again if it did not.
    """

    memory: int
    learns: ClassVar[bool] = True

    def make_curvature(self, objective: Smooth, theta: Tensor, pairs: LSR1) -> Curvature:
        return pairs.hessian

    def choose_evaluation(self, objective: Smooth, gradient_likely: bool) -> Evaluate:
        return objective.evaluate_with_gradient

    def learn(self, pairs: LSR1, s: Tensor, change: Callable[[], Tensor]) -> LSR1:
        y = change()
        return pairs.update(s, y, self.memory) if bool(y.isfinite().all()) else pairs

    def describe(self, norm: Norm, cg_iterations: int) -> str:
        solver = "OBS" if norm == 2 else "conjugate gradients in the box"
        return f"L-SR1 model, {self.memory} secant pairs, {solver}"
