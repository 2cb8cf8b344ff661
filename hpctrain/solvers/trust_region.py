"""Trust-region training with a linear model or an L-SR1 model of the loss.

    s ≈ argmin m(s),  m(s) = L(θ) + gᵀs + ½ sᵀBs,  ‖s‖₂ ≤ Δ
    ρ = (L(θ) - L(θ+s)) / (m(0) - m(s));  θ ← θ + s if ρ ≥ η₁;  Δ shrinks or grows with ρ

Order 1: B = 0, hence s = -Δ g/‖g‖. Order 2: B by limited-memory SR1, s its global minimum (OBS).
Sources: Conn, Gould, Toint, Trust-Region Methods (2000), algorithm 6.1.1; Nocedal and Wright,
Numerical Optimization (2006), algorithm 6.2 (SR1).
"""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Tensor

from hpctrain.globalization.trust_region import (
    TrustRegionOptions,
    is_accepted,
    next_radius,
    reduction_ratio,
    rounding_error,
)
from hpctrain.objective import Smooth
from hpctrain.options import Options
from hpctrain.quasi_newton.lsr1 import LSR1, Hessian
from hpctrain.solvers.base import Point, Record, Solver, evaluate, point_of
from hpctrain.vectors import dot, norm


class TrustRegionSolverOptions(Options):
    """Settings of the trust-region solver."""

    name: Literal["trust-region"] = "trust-region"
    order: Literal[1, 2] = Field(2, description="of the model: 1 linear, 2 with an L-SR1 Hessian")
    memory: int = Field(10, ge=1, description="secant pairs kept, m (order 2)")
    trust_region: TrustRegionOptions = TrustRegionOptions()


@dataclass
class TrustRegionState:
    """θ, the radius Δ of the next step, the pairs of L-SR1, and how the last step went.

    Attributes:
        step_length: ‖s‖ of the last step; 0 if it was rejected.
        gradients: evaluated for the last step.
        stalled: no decrease was found where the model foresees none that could be measured, or
            the radius is at its minimum.
    """

    point: Point
    radius: float
    memory: LSR1 = field(default_factory=LSR1)
    step_length: float = 0.0
    gradients: int = 0
    stalled: bool = False


def trust_region_step(
    objective: Smooth, state: TrustRegionState, options: TrustRegionSolverOptions
) -> TrustRegionState:
    """One trial step from a point whose gradient is known; where it is rejected θ stays.

    Order 1 evaluates the loss of a trial first, and its gradient only if the step is accepted.
    Order 2 evaluates both in one pass: B learns from rejected steps too, where it was wrong, and
    they would be repeated if it did not.
    """
    o, old, learns = options.trust_region, state.point, options.order == 2
    B = state.memory.hessian if learns else Hessian(0.0)
    s = B.minimise(old.gradient, state.radius).step
    step_norm, predicted = norm(s), -(dot(old.gradient, s) + 0.5 * dot(s, B.product(s)))
    theta = old.theta + s
    trial = objective.with_gradient(theta) if learns else objective.at(theta)

    rounding = rounding_error(old.loss, theta.dtype)
    rho = reduction_ratio(old.loss, trial.loss, predicted, rounding)
    accepted = is_accepted(rho, o)
    memory = _learn(state.memory, s, trial.gradient - old.gradient, options) if learns else LSR1()
    hopeless = not predicted > rounding or (not accepted and state.radius <= o.min_radius)
    return TrustRegionState(
        point=point_of(trial) if accepted else old,
        radius=next_radius(state.radius, rho, step_norm, o),
        memory=memory,
        step_length=step_norm if accepted else 0.0,
        gradients=int(learns or accepted),
        stalled=hopeless and not trial.loss < old.loss,
    )


def _learn(memory: LSR1, s: Tensor, y: Tensor, options: TrustRegionSolverOptions) -> LSR1:
    """The memory with the pair of a trial, if that is finite."""
    return memory.updated(s, y, options.memory) if bool(y.isfinite().all()) else memory


class TrustRegion(Solver[TrustRegionState]):
    """Single-level trust region on all parameters."""

    def init(self, theta: Tensor) -> TrustRegionState:
        with self.setting.timer.phase("global"):
            point = evaluate(self.setting.objective, theta)
            return TrustRegionState(point, self.options.trust_region.radius)

    def step(self, state: TrustRegionState) -> tuple[TrustRegionState, Record]:
        with self.setting.timer.phase("global"):
            new = trust_region_step(self.setting.objective, state, self.options)
            return new, Record(
                loss=new.point.loss,
                gradient_norm=norm(new.point.gradient),
                step_length=new.step_length,
                nominal_gradient_evaluations=new.gradients,
                update_cost=float(self.options.order == 2),
                stalled=new.stalled,
            )

    def describe(self) -> list[str]:
        o = self.options
        model = "linear model" if o.order == 1 else f"L-SR1 model, {o.memory} secant pairs, OBS"
        t = o.trust_region
        return [
            f"trust region, {model}",
            f"radius {t.radius:g} in [{t.min_radius:g}, {t.max_radius:g}], accepted if rho >="
            f" {t.eta1:g}, x {t.grow:g} above {t.eta2:g}, else x {t.shrink:g}",
        ]
