"""A local loss with a linear term, which makes its gradient equal to the global one at one point.

    h(θ) = L_p(θ) + ⟨δg, θ - θ₀⟩,   δg = g - ∇L_p(θ₀),   so that ∇h(θ₀) = g

L_p is the loss over some samples, or of a smaller network, and g the gradient of the global loss
at θ₀. A small step from θ₀ that lowers h also lowers the global loss. Sources: Groß and Krause
2009; Nash, MG/OPT, Optimization Methods and Software 14 (2000).
"""

from torch import Tensor

from hpctrain.linalg.vectors import dot
from hpctrain.objective.evaluation import Objective
from hpctrain.objective.smooth import Evaluation, Point, evaluate_point


class Corrected:
    """The function h, which is evaluated as an `Objective` is.

    Args:
        objective: L_p.
        correction: δg (n,).
        origin: θ₀ (n,).
    """

    def __init__(self, objective: Objective, correction: Tensor, origin: Tensor) -> None:
        self.parameters = objective.parameters
        self.dtype = objective.dtype
        self.communicator = objective.communicator
        self.counts = objective.counts
        self.samples = objective.samples
        self._objective = objective
        self._correction = correction
        self._origin = origin

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Evaluates h at θ (n,); its gradient, if it is asked for later, costs another pass."""
        return Evaluation(
            self, theta, self._objective.evaluate(theta).loss + self._evaluate_linear(theta)
        )

    def evaluate_with_gradient(self, theta: Tensor) -> Evaluation:
        """Evaluates h and ∇h at θ (n,) together."""
        found = self._objective.evaluate_with_gradient(theta)
        gradient = found.evaluate_gradient() + self._correction
        return Evaluation(self, theta, found.loss + self._evaluate_linear(theta), gradient)

    def multiply_hessian(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes ∇²h(θ) v (n,), which is ∇²L_p(θ) v."""
        return self._objective.multiply_hessian(theta, v)

    def _evaluate_linear(self, theta: Tensor) -> float:
        return dot(self._correction, theta - self._origin)


def make_consistent(
    objective: Objective, gradient: Tensor, origin: Tensor
) -> tuple[Corrected, Point]:
    """Makes h with ∇h(θ₀) = g, by one evaluation of L_p and ∇L_p at θ₀.

    Args:
        objective: L_p.
        gradient: g (n,), the gradient of the global loss with respect to L_p's variables.
        origin: θ₀ (n,).

    Returns:
        h, and its value L_p(θ₀) and gradient g at θ₀.
    """
    own = evaluate_point(objective, origin)
    h = Corrected(objective, gradient - own.gradient, origin)
    return h, Point(origin, own.loss, gradient)
