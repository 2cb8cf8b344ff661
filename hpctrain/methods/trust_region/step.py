"""One trial step of a trust-region method, alone or as a part of another method.

    s ≈ argmin m(s),  m(s) = L(θ) + gᵀs + ½ sᵀBs,  ‖s‖ ≤ Δ   (2- or infinity norm)
    ρ = (L(θ) - L(θ+s)) / (m(0) - m(s));  the step is taken if ρ ≥ η₁;  Δ shrinks or grows with ρ

Sources: `models` for B, `subproblem` for s, `control` for ρ and Δ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.trust_region.control import (
    RadiusOptions,
    estimate_rounding,
    find_reference_loss,
    judge,
)
from hpctrain.methods.trust_region.models import Evaluate, Model
from hpctrain.methods.trust_region.subproblem import Curvature, Norm, length, minimise_model
from hpctrain.objective import Evaluation, Point

# Cap on products with B in one minimisation of the model, where nothing else is asked for.
CG_ITERATIONS = 10
# Steps are longer than their radius by no more than rounding errors, in units of the precision.
BOUND_UNITS = 100


@dataclass(frozen=True)
class Attempt:
    """A trial step and what became of it.

    Attributes:
        step, length: s (n,) and ‖s‖.
        trial: the loss at θ + s.
        accepted: whether the step is taken.
        radius: Δ for the next step.
        outcome: final where no decrease that could be measured was foreseen, or none came at the
            least radius. `accepted` may then still be true, of a step that left the loss as it was.
    """

    step: Tensor
    length: float
    trial: Evaluation
    accepted: bool
    radius: float
    outcome: Outcome


@dataclass(frozen=True)
class TrialRule:
    """How trial steps are made and judged.

    Attributes:
        model: B of m(s).
        control: η₁, η₂, and the limits and factors of Δ.
        norm: of steps.
        cg_iterations: cap on products with B, where conjugate gradients minimise m.
        debug: assert that every step keeps its radius.
    """

    model: Model
    control: RadiusOptions
    norm: Norm
    cg_iterations: int = CG_ITERATIONS
    debug: bool = False

    def attempt(
        self,
        evaluate: Evaluate,
        point: Point,
        B: Curvature,
        radius: float,
        window: Sequence[float] = (),
    ) -> Attempt:
        """Makes the step that minimises the model, and judges it; collective.

        Args:
            evaluate: L at a trial, as `Model.choose_evaluation` gives it.
            point: θ, L(θ) and the model's g.
            B: of the model at θ.
            radius: Δ.
            window: of a nonmonotone acceptance (`control.slide_window`); empty for a monotone one.
        """
        found = minimise_model(B, point.gradient, radius, self.norm, self.cg_iterations)
        self.check_bound(found.step, radius)
        trial = evaluate(point.theta + found.step)
        rounding = estimate_rounding(point.loss, point.theta.dtype)
        verdict = judge(
            point.loss,
            trial.loss,
            found.predicted,
            radius,
            found.length,
            rounding,
            self.control,
            find_reference_loss(window, point.loss),
        )
        outcome = Outcome.ACCEPTED if verdict.accepted else Outcome.REFUSED
        if not trial.loss < point.loss:
            if not found.predicted > rounding:
                outcome = Outcome.NO_DECREASE_FORESEEN
            elif not verdict.accepted and radius <= self.control.min_radius:
                outcome = Outcome.LEAST_RADIUS
        return Attempt(found.step, found.length, trial, verdict.accepted, verdict.radius, outcome)

    def limit_radius(self, budget: float, smallest: float) -> "TrialRule":
        """The same rule with Δ in [smallest · budget, budget]."""
        limits = {"radius": budget, "min_radius": smallest * budget, "max_radius": budget}
        return replace(self, control=self.control.model_copy(update=limits))

    def check_bound(self, s: Tensor, radius: float) -> None:
        """With `debug`, asserts ‖s‖ ≤ Δ; a NaN, which no trial survives, passes."""
        if self.debug:
            size, bound = (
                length(s, self.norm),
                radius * (1 + BOUND_UNITS * torch.finfo(s.dtype).eps),
            )
            assert not size > bound, f"a step of length {size:.17g} in a radius of {radius:.17g}"

    def describe_model(self) -> str:
        """The model and its minimiser in a few words."""
        return self.model.describe(self.norm, self.cg_iterations)

    def describe_control(self) -> str:
        """The radius control, in a line."""
        c = self.control
        return (
            f"radius {c.radius:g} in [{c.min_radius:g}, {c.max_radius:g}] ({self.norm}-norm),"
            f" accepted if rho >= {c.eta1:g}, x {c.grow:g} above {c.eta2:g}, else x {c.shrink:g}"
        )
