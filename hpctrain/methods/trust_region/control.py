"""Control of a trust region: judge a trial step by its ratio ρ, take or refuse it, update Δ.

    ρ = (L(θ) - L(θ+s)) / (m(0) - m(s));  the step is taken if ρ ≥ η₁;  Δ shrinks or grows with ρ

A nonmonotone acceptance replaces L(θ) in ρ by the greatest of the last W losses. A step may then
raise the loss for a while; the radius still grows only where ρ itself exceeds η₂.

Sources: Conn, Gould, Toint, Trust-Region Methods (2000), algorithm 6.1.1, with its guard against
rounding errors (section 17.4.2); nonmonotone: Deng, Xiao, Zhou, Journal of Optimization Theory and
Applications 76 (1993), and for APTS Angino et al., arXiv 2605.14860.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field, model_validator

from hpctrain.methods.trust_region.subproblem import Norm
from hpctrain.options import Options

# Losses are known to this many units of their rounding error.
ROUNDING_UNITS = 10
# A step longer than this fraction of the radius was held back by it.
AT_BOUNDARY = 0.99


class RadiusOptions(Options):
    """Constants of the radius control, for methods that measure steps in the 2-norm."""

    radius: float = Field(1.0, gt=0, description="Δ at the start")
    min_radius: float = Field(1e-10, gt=0, description="least Δ")
    max_radius: float = Field(100.0, gt=0, description="greatest Δ")
    eta1: float = Field(0.25, gt=0, lt=1, description="a step is taken if ρ ≥ η₁")
    eta2: float = Field(0.75, gt=0, lt=1, description="Δ grows if ρ > η₂")
    shrink: float = Field(0.5, gt=0, lt=1, description="Δ after a rejected step, as part of it")
    grow: float = Field(2.0, gt=1, description="factor of Δ after a very good step")

    @model_validator(mode="after")
    def _order_limits(self) -> "RadiusOptions":
        if not self.min_radius <= self.radius <= self.max_radius:
            raise ValueError("min_radius <= radius <= max_radius must hold")
        if not self.eta1 <= self.eta2:
            raise ValueError("eta1 <= eta2 must hold")
        return self


class TrustRegionOptions(RadiusOptions):
    """The norm of a trust region, and the constants of its radius control."""

    norm: Norm = Field(2, description='of a step: 2, or "inf" for its largest component')


def estimate_rounding(loss: float, dtype: torch.dtype) -> float:
    """δ: a difference of two losses near `loss` that is smaller is rounding error."""
    return ROUNDING_UNITS * torch.finfo(dtype).eps * abs(loss)


def compute_reduction_ratio(
    loss: float, trial_loss: float, predicted: float, rounding: float
) -> float:
    """ρ = (L(θ) - L(θ+s) + δ) / (m(0) - m(s) + δ); -∞ for a useless trial.

    δ is the rounding error of the losses. Where both reductions are smaller than δ they agree as
    far as can be known, and ρ tends to 1; where they are larger δ changes nothing. Conn, Gould and
    Toint take δ from max(1, |L|); here losses may be tiny, and δ is relative to |L|.

    Args:
        loss, trial_loss: L(θ) and L(θ+s); a trial whose loss is not finite is useless.
        predicted: m(0) - m(s); a trial for which it is not positive is useless.
        rounding: δ.
    """
    if not math.isfinite(trial_loss) or not predicted > 0:
        return -math.inf
    return (loss - trial_loss + rounding) / (predicted + rounding)


def is_accepted(ratio: float, options: RadiusOptions) -> bool:
    """Whether the step is taken: ρ ≥ η₁."""
    return ratio >= options.eta1


def update_radius(radius: float, ratio: float, step_norm: float, options: RadiusOptions) -> float:
    """Δ for the next step.

    After a refused step Δ is a fraction of the step's length, which may have been less than Δ: the
    same model must not propose the same step again. Δ grows after a step with ρ > η₂ that reached
    the boundary. A step of length 0, from a point where the gradient is zero, leaves Δ unchanged.
    """
    if step_norm == 0:
        return radius
    if not is_accepted(ratio, options):
        return max(options.shrink * min(step_norm, radius), options.min_radius)
    if ratio > options.eta2 and step_norm >= AT_BOUNDARY * radius:
        return min(options.grow * radius, options.max_radius)
    return radius


@dataclass(frozen=True)
class Verdict:
    """ρ, whether the step is taken, and Δ for the next one."""

    ratio: float
    accepted: bool
    radius: float


def judge(
    loss: float,
    trial_loss: float,
    predicted: float,
    radius: float,
    step_norm: float,
    rounding: float,
    options: RadiusOptions,
    reference: float | None = None,
) -> Verdict:
    """Decides whether a trial step is taken, and updates the radius.

    Args:
        loss, trial_loss, predicted, rounding: as for `compute_reduction_ratio`.
        radius, step_norm: Δ and ‖s‖.
        reference: the loss with which a nonmonotone acceptance compares the trial, at least L(θ).
    """
    rho = compute_reduction_ratio(loss, trial_loss, predicted, rounding)
    tolerant = rho
    if reference is not None:
        tolerant = compute_reduction_ratio(reference, trial_loss, predicted, rounding)
    accepted = is_accepted(tolerant, options)
    # A step that is taken for the sake of the window alone neither shrinks Δ nor lets it grow.
    held = max(rho, options.eta1) if accepted else rho
    return Verdict(rho, accepted, update_radius(radius, held, step_norm, options))


def find_reference_loss(window: Sequence[float], loss: float) -> float:
    """The greatest of the last W losses: L(θ), or that of the highest point of the window."""
    return loss + max(0.0, *window) if window else loss


def slide_window(window: Sequence[float], decrease: float, size: int) -> list[float]:
    """The window after a step: how far the losses of the last W - 1 points lie above the new one.

    A step adds the decrease of the loss, which may be negative, to each height. Where all steps
    see all samples, the heights are differences of losses. Where each step has a mini-batch of its
    own, each decrease is that of its mini-batch: losses of different mini-batches cannot be
    compared, their decreases can be added.

    Args:
        window: the heights before the step, the oldest first, W - 1 at most.
        decrease: L(θ) - L(θ+s) on the samples of this step.
        size: W.
    """
    heights = [*(height + decrease for height in window), decrease]
    return heights[max(len(heights) + 1 - size, 0) :]
