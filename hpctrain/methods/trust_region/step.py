"""One trial step of a trust-region method, alone or as a part of another method.

    s ≈ argmin m(s),  m(s) = L(θ) + gᵀs + ½ sᵀBs,  ‖s‖ ≤ Δ   (2- or infinity norm)
    ρ = (L(θ) - L(θ+s)) / (m(0) - m(s))

Linear (order 1): B = 0. L-SR1 (order 2): B learns from every trial. Hessian: its products with
conjugate gradients.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.control import (
    TrustRegionOptions,
    judge,
    reference_loss,
    rounding_error,
)
from hpctrain.methods.trust_region.subproblem import Curvature, minimise_model
from hpctrain.objective import Evaluation, Objective, Point, Smooth
from hpctrain.options import Options

# Steps are longer than their radius by no more than rounding errors, in units of the precision.
BOUND_UNITS = 100


class ModelOptions(Options):
    """Settings of trust-region steps, alone or as the parts of another method."""

    model: Literal["linear", "lsr1", "hessian"] = Field(
        "lsr1", description="of the loss: order 1, order 2 by L-SR1, or with its exact Hessian"
    )
    memory: int = Field(10, ge=1, description="secant pairs kept, m (lsr1)")
    cg_iterations: int = Field(10, ge=1, description="cap on Hessian products a step (hessian)")
    window: int = Field(
        1, ge=1, description="W, losses whose greatest a trial is compared with; 1 is monotone"
    )
    debug: bool = Field(False, description="assert in every step that it keeps its bounds")
    trust_region: TrustRegionOptions = TrustRegionOptions()


@dataclass(frozen=True)
class Attempt:
    """A trial step s (n,) of length ‖s‖, the loss there, and what became of it.

    `outcome` is final where no decrease that could be measured was foreseen, or none came at the
    least radius. `accepted` may then still be true, of a step that left the loss as it was.
    """

    step: Tensor
    length: float
    trial: Evaluation
    ratio: float
    accepted: bool
    radius: float
    outcome: Outcome


def attempt_step(
    objective: Smooth,
    point: Point,
    B: Curvature,
    radius: float,
    options: ModelOptions,
    with_gradient: bool,
    window: list[float] | None = None,
) -> Attempt:
    """Tries the step that the model proposes.

    Args:
        objective: L.
        point: θ, L(θ) and the model's g.
        B: of the model.
        radius: Δ.
        options: the region's norm and constants.
        with_gradient: evaluate the trial with its gradient, in one pass.
        window: of a nonmonotone acceptance, by `slid`.
    """
    o, theta = options.trust_region, point.theta
    found = minimise_model(B, point.gradient, radius, o.norm, options.cg_iterations)
    if options.debug:
        check_bound(found.length, radius, theta.dtype)
    evaluate_at = objective.with_gradient if with_gradient else objective.at
    trial = evaluate_at(theta + found.step)
    rounding = rounding_error(point.loss, theta.dtype)
    reference = reference_loss(window, point.loss) if window else None
    verdict = judge(
        point.loss, trial.loss, found.predicted, radius, found.length, rounding, o, reference
    )
    outcome = Outcome.ACCEPTED if verdict.accepted else Outcome.REFUSED
    if not trial.loss < point.loss:
        if not found.predicted > rounding:
            outcome = Outcome.NO_DECREASE_FORESEEN
        elif not verdict.accepted and radius <= o.min_radius:
            outcome = Outcome.LEAST_RADIUS
    return Attempt(
        step=found.step,
        length=found.length,
        trial=trial,
        ratio=verdict.ratio,
        accepted=verdict.accepted,
        radius=verdict.radius,
        outcome=outcome,
    )


def check_bound(length: float, radius: float, dtype: torch.dtype) -> None:
    """Asserts ‖s‖ ≤ Δ; a NaN, which no trial survives, passes."""
    bound = radius * (1 + BOUND_UNITS * torch.finfo(dtype).eps)
    assert not length > bound, f"a step of length {length:.17g} in a radius of {radius:.17g}"


def curvature(objective: Smooth, theta: Tensor, memory: LSR1, options: ModelOptions) -> Curvature:
    """B of the options' model at θ."""
    match options.model:
        case "linear":
            return None
        case "lsr1":
            return memory.hessian
        case "hessian":
            return lambda v: objective.hessian_vector(theta, v)


def learnt(memory: LSR1, s: Tensor, y: Tensor, options: ModelOptions) -> LSR1:
    """The memory with the pair of a trial, if that is finite."""
    return memory.updated(s, y, options.memory) if bool(y.isfinite().all()) else memory


def check_model(objective: Objective, options: ModelOptions) -> None:
    """Raises an InputError where the loss cannot give what the model needs."""
    if options.model == "hessian" and not objective.has_subsets:
        raise InputError('solver.model = "hessian": this problem\'s loss has no Hessian products')


def described_model(options: ModelOptions) -> str:
    """The model, as a solver's description names it."""
    solver = "OBS" if options.trust_region.norm == 2 else "conjugate gradients in the box"
    return {
        "linear": "linear model",
        "lsr1": f"L-SR1 model, {options.memory} secant pairs, {solver}",
        "hessian": f"exact Hessian, at most {options.cg_iterations} conjugate gradients",
    }[options.model]


def described_region(options: ModelOptions) -> list[str]:
    """The radius control and the acceptance, a line each."""
    t, w = options.trust_region, options.window
    lines = [
        f"radius {t.radius:g} in [{t.min_radius:g}, {t.max_radius:g}] ({t.norm}-norm), accepted if"
        f" rho >= {t.eta1:g}, x {t.grow:g} above {t.eta2:g}, else x {t.shrink:g}"
    ]
    if w > 1:
        lines.append(f"nonmonotone: rho by the greatest of {w} losses")
    return lines
