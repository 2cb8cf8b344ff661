"""L - L* of a strongly convex loss, L* by Newton's method to far below what is measured."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from hpctrain.linalg.krylov import UNBOUNDED
from hpctrain.linalg.krylov.steihaug_cg import steihaug_cg
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.search.armijo import ArmijoOptions, armijo
from hpctrain.objective import Objective, evaluate_point

# L* is known to this, by L - L* ≤ ‖∇L‖² / 2λ.
LARGEST_GAP = 1e-13
MAX_ITERATIONS = 100
MAX_CG_ITERATIONS = 1000


class SuboptimalityMonitor:
    """Measures L(θ) - L* with evaluations of its own, which no solver's counts contain.

    Args:
        objective: L on all ranks, its counts not those of the run.
        convexity: λ, L being λ-strongly convex.
        start: θ (n,) from which the minimum is looked for.
    """

    columns: tuple[str, ...] = ("suboptimality",)

    def __init__(self, objective: Objective, convexity: float, start: Tensor) -> None:
        self._objective = objective
        self._timer = objective.communicator.timer
        self.minimum = find_minimum(objective, convexity, start)

    def measure(self, theta: Tensor) -> dict[str, float]:
        with self._timer.phase("validation"):
            return {"suboptimality": self._objective.evaluate(theta).loss - self.minimum}

    def evaluate_solution(self, theta: Tensor) -> dict[str, np.ndarray]:
        return {}

    def describe_progress(self, values: Mapping[str, float]) -> str:
        return f"L - L* {values['suboptimality']:.2e}"

    def describe_values(self, values: Mapping[str, float]) -> str:
        return f"L - L* {values['suboptimality']:.3e}, L* {self.minimum:.15g}"


def find_minimum(objective: Objective, convexity: float, theta: Tensor) -> float:
    """L* by inexact Newton steps, each along a direction of conjugate gradients; collective."""
    search = ArmijoOptions()
    for _ in range(MAX_ITERATIONS):
        now = evaluate_point(objective, theta)
        g = now.gradient
        if dot(g, g) <= 2 * convexity * LARGEST_GAP:
            break

        def product(v: Tensor, at: Tensor = theta) -> Tensor:
            return objective.multiply_hessian(at, v)

        tolerance = min(0.1, norm(g))
        d = steihaug_cg(product, g, UNBOUNDED, tolerance, MAX_CG_ITERATIONS).step
        found = armijo(objective, theta, d, now.loss, dot(g, d), 1.0, search)
        if found is None:  # at round-off
            break
        theta = found.evaluation.theta
    return now.loss
