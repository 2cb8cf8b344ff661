"""APTS in data: subdomains are shares of the samples, each with all parameters.

    L_p(θ) = the mean loss over share p of the iteration's samples
    h_p(θ) = L_p(θ) + ⟨∇L(θ_k) - ∇L_p(θ_k), θ - θ_k⟩,   so that ∇h_p(θ_k) = ∇L(θ_k)
    ‖s_p‖ ≤ Δ/N,   hence ‖Σ_p s_p‖ ≤ Δ

The shares of the whole set are drawn once, disjoint, and a subdomain takes what its share has of
the mini-batch, so that a rank keeps its share only. With an overlap of o % a share draws o % of the
other samples too. `solvers.apts` has the algorithm. Sources: Groß and Krause 2009; Cruz, Kothari,
Kopaničáková, Krause, arXiv 2502.05133.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.methods.groups import Groups
from hpctrain.methods.sampling.shares import Share, ShareWork
from hpctrain.methods.trust_region.control import TrustRegionOptions
from hpctrain.methods.trust_region.subdomains import LocalProblem
from hpctrain.methods.trust_region.subproblem import Norm
from hpctrain.objective import Objective, Point, evaluate_point, make_consistent
from hpctrain.options import refuse_idle
from hpctrain.solvers.apts import APTS, APTSOptions
from hpctrain.solvers.base import Need, Setting


class DataRegionOptions(TrustRegionOptions):
    """Constants of the radius control, as published for APTS in data."""

    norm: Norm = Field(2, description='of a step: 2, or "inf" for its largest component')
    radius: float = Field(1.0, gt=0, description="Δ at the start")
    min_radius: float = Field(1e-3, gt=0, description="least Δ")
    max_radius: float = Field(4.0, gt=0, description="greatest Δ")


class APTSDataOptions(APTSOptions):
    """Settings of APTS in data."""

    name: Literal["apts-data"] = "apts-data"
    subdomains: int = Field(2, ge=1, description="N, shares of the samples")
    sample_overlap: float = Field(
        0.0, ge=0, lt=100, description="percent of the other samples that a share draws too"
    )
    first_order_correction: bool = Field(
        True, description="make the local gradients equal to the global one at the start"
    )
    trust_region: DataRegionOptions = Field(
        DataRegionOptions(), description="the radius, and the constants of its control"
    )

    @model_validator(mode="after")
    def _refuse_settings_of_several_shares(self) -> "APTSDataOptions":
        if self.subdomains == 1:
            reason = "with subdomains = 1, whose share is all samples"
            refuse_idle(self, {"sample_overlap": reason, "first_order_correction": reason})
        return self


@dataclass(frozen=True)
class Shares:
    """Shares of the samples, each with all parameters, as the subdomains of APTS.

    Attributes:
        work: which ranks work on which share, on which L_p.
        options: N, the overlap, whether h_p is corrected.
        parameters: n.
    """

    work: ShareWork
    options: APTSDataOptions
    parameters: int

    @property
    def own(self) -> Sequence[int]:
        return sorted(self.work.own)

    @property
    def groups(self) -> Groups:
        return self.work.groups

    @property
    def sizes(self) -> Sequence[int]:
        return [self.parameters] * self.options.subdomains

    @property
    def local_gradients(self) -> float:
        """The shares together: all samples once, and what each share draws of the others."""
        return 1 + self.options.sample_overlap / 100 * (self.options.subdomains - 1)

    def pose_problem(
        self, p: int, L: Objective, chosen: Tensor | None, point: Point
    ) -> LocalProblem | None:
        """h_p at θ_k; None where share p and the mini-batch have no sample in common."""
        L_p = _restrict_share(self.work.own[p], chosen)
        if L_p is None:
            return None
        if not self.options.first_order_correction:
            return LocalProblem(L_p, evaluate_point(L_p, point.theta), L_p.counts)
        h_p, start = make_consistent(L_p, point.gradient, point.theta)
        return LocalProblem(h_p, start, L_p.counts)

    def limit_step(self, radius: float) -> float:
        """Δ/N."""
        return radius / self.options.subdomains

    def add(self, steps: Sequence[Tensor]) -> Tensor:
        total = steps[0].clone()
        for step in steps[1:]:
            total += step
        return total

    def describe(self) -> str:
        o = self.options
        overlap = f", overlap {o.sample_overlap:g} %" if o.sample_overlap else ""
        consistent = "" if o.first_order_correction else ", without first-order correction"
        return f"{o.subdomains} shares of the samples{overlap}, all parameters{consistent}"


def _restrict_share(share: Share, chosen: Tensor | None) -> Objective | None:
    """L_p over the samples of the share among the chosen ones, its work counted from zero."""
    counts = share.objective.counts
    counts.loss_work = counts.gradient_work = counts.hvp_work = 0
    if chosen is None:
        return share.objective
    common = share.samples[torch.isin(share.samples, chosen, assume_unique=True)]
    return share.objective.subset(common) if len(common) else None


class APTSData(APTS):
    """APTS whose subdomains are shares of the samples."""

    names = ("apts-data",)
    Options = APTSDataOptions
    needs = frozenset({Need.SHARES})

    def __init__(self, setting: Setting, options: APTSDataOptions) -> None:
        self.check_needs(setting, options)
        L, o = setting.objective, options
        work = ShareWork.of(L, o.subdomains, o.sample_overlap, setting.seed)
        super().__init__(setting, options, Shares(work, options, L.parameters))
