"""A local objective made first-order consistent with the global one by a linear term.

    h(θ) = L_p(θ) + ⟨δg, θ - θ₀⟩,   δg = g - ∇L_p(θ₀),   so that ∇h(θ₀) = g

Near θ₀ it descends where the global loss does. Sources: Groß and Krause 2009; Nash, MG/OPT,
Optimization Methods and Software 14 (2000).
"""

from torch import Tensor

from hpctrain.linalg.vectors import dot
from hpctrain.objective.evaluation import Objective
from hpctrain.objective.smooth import Evaluation, Point, evaluate_point


class Corrected:
    """h, with the evaluations of an `Objective`.

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
        """Evaluates h at θ; ∇h there costs an evaluation more."""
        return Evaluation(
            self, theta, self._objective.evaluate(theta).loss + self._evaluate_linear(theta)
        )

    def evaluate_with_gradient(self, theta: Tensor) -> Evaluation:
        """Evaluates h and ∇h at θ together."""
        found = self._objective.evaluate_with_gradient(theta)
        gradient = found.evaluate_gradient() + self._correction
        return Evaluation(self, theta, found.loss + self._evaluate_linear(theta), gradient)

    def multiply_hessian(self, theta: Tensor, v: Tensor) -> Tensor:
        """∇²h(θ) v = ∇²L_p(θ) v (n,)."""
        return self._objective.multiply_hessian(theta, v)

    def _evaluate_linear(self, theta: Tensor) -> float:
        return dot(self._correction, theta - self._origin)


def make_consistent(
    objective: Objective, gradient: Tensor, origin: Tensor
) -> tuple[Corrected, Point]:
    """h with ∇h(θ₀) = g, and the point θ₀ of h; evaluates L_p and ∇L_p there.

    Args:
        objective: L_p.
        gradient: g (n,), of the global loss, in the local variables.
        origin: θ₀ (n,).
    """
    own = evaluate_point(objective, origin)
    h = Corrected(objective, gradient - own.gradient, origin)
    return h, Point(origin, own.loss, gradient)
