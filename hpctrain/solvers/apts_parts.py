"""APTS in data with a local step on every part of a share: many steps for two gradients.

Subdomains p = 1 … N are shares of the samples, as in `solvers.apts_data`. What a share has of the
iteration's mini-batch B is cut into k parts B_pj. Iteration k:

    1. start      g_pj = ∇L_pj(θ_k) for every part; their mean, weighted by samples, is
                  g = ∇L(θ_k), L being over B: one gradient of B gives them all
    2. local      in every share from θ_k, for j = 1 … k:
                      d = g + ∇L_pj(θ) - g_pj        (= g where θ = θ_k)
                      m ← β₁ m + (1-β₁) d;  v ← β₂ v + (1-β₂) d²;  D = √(v/(1-β₂ᵗ)) + ε
                      s_j = argmin of m̂ᵀs + ½ sᵀ(D/α)s over ‖s‖_∞ ≤ α,  m̂ = m/(1-β₁ᵗ),  α = Δ_k/k
                          = clamp(-α D⁻¹ m̂, -α, α);   θ ← θ + s_j
    3. trial      s = Σ_p w_p s_p, w_p the share's part of B, so that ‖s‖_∞ ≤ Δ_k;
                  predicted = Σ_p w_p Σ_j (decrease of the model of s_j)
    4. control    ρ = (L(θ_k) - L(θ_k + s)) / predicted, on B: one loss of B. θ ← θ_k + s if ρ ≥ η₁,
                  and Δ follows ρ

Δ_k is Δ, but at most the greatest radius times the decay's factor (`methods.decay`). The mean of
the shares' steps is taken, not their sum: each share corrects the whole error in steep directions,
and the sum would do so N times. A share keeps m, v and its steps t from one local phase to the
next. One without a sample in B, or whose steps are not finite, contributes nothing.

Sources: local objectives and control: Groß and Krause 2009; Cruz, Kothari, Kopaničáková, Krause,
arXiv 2502.05133; the correction of a part's gradient: Johnson and Zhang, SVRG, NeurIPS 2013; the
diagonal: Kingma and Ba, Adam, arXiv 1412.6980. Their combination is this project's own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.decay import DecayOptions
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.sampling.mini_batches import make_mini_batches
from hpctrain.methods.sampling.shares import ShareWork
from hpctrain.methods.trust_region.control import RadiusOptions
from hpctrain.methods.trust_region.subproblem import length
from hpctrain.methods.trust_region.trials import RatioControl, Trial
from hpctrain.objective import Evaluation, Objective, Point, evaluate_point
from hpctrain.solvers.base import Need, Record, Setting, Solver
from hpctrain.store.state import BlockStates


class PartsRegionOptions(RadiusOptions):
    """Constants of the radius control; steps are measured in the ∞-norm."""

    radius: float = Field(0.04, gt=0, description="Δ at the start")
    min_radius: float = Field(1e-6, gt=0, description="least Δ")
    max_radius: float = Field(0.04, gt=0, description="greatest Δ, which the decay lowers")


class APTSPartsOptions(DecayOptions):
    """Settings of APTS in data with a local step on every part of a share."""

    name: Literal["apts-parts"] = "apts-parts"
    batch_size: int = Field(ge=1, description="samples of a mini-batch B")
    subdomains: int = Field(2, ge=1, description="N, shares of the samples")
    parts: int = Field(20, ge=1, description="k, parts of a share's samples in B; a step on each")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the gradient's mean")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the squared gradient's mean")
    epsilon: float = Field(1e-8, gt=0, description="added to the root in D")
    trust_region: PartsRegionOptions = Field(
        PartsRegionOptions(), description="the radius, and the constants of its control"
    )


@dataclass
class Moments:
    """What a share keeps: the means m and v (n,) of d and of its square, and its steps t so far."""

    m: Tensor
    v: Tensor
    t: int = 0


@dataclass
class APTSPartsState:
    """θ, the radius Δ, and what the shares remember.

    Attributes:
        point: its loss is that of the last mini-batch, its gradient that of the point from which
            the last trial was made.
        radius: Δ.
        moments: of the shares that this rank works on.
        iteration: iterations so far.
        accepted: whether the last trial was taken.
    """

    point: Point
    radius: float
    moments: BlockStates[Moments] = field(default_factory=BlockStates)
    iteration: int = 0
    accepted: bool = False


@dataclass(frozen=True)
class Part:
    """L_pj, over the samples of part j of a share, and g_pj (n,) where the iteration starts."""

    objective: Objective
    gradient: Tensor


@dataclass(frozen=True)
class ShareOfBatch:
    """What a share has of a mini-batch: L over that, and its parts."""

    objective: Objective
    parts: list[Part]


@dataclass(frozen=True)
class LocalSteps:
    """s_p (n,), the decrease of the models, and the moments after the steps."""

    step: Tensor
    decrease: float
    moments: Moments


class APTSParts(Solver[APTSPartsState]):
    """The algorithm.

    Nominal costs count the start, the local steps but the first of each share, whose gradient is g,
    and the trial's loss as a gradient. An update goes over vectors as long as θ, once a local step.
    """

    names = ("apts-parts",)
    Options = APTSPartsOptions
    needs = frozenset({Need.SHARES})
    columns = ("radius", "ratio", "trial_accepted")

    @classmethod
    def takes_batches(cls, options: APTSPartsOptions) -> bool:
        return True

    def __init__(self, setting: Setting, options: APTSPartsOptions) -> None:
        super().__init__(setting, options)
        L, o = setting.objective, options
        self.batches = make_mini_batches(L, setting.seed, o.batch_size)
        self.work = ShareWork.of(L, o.subdomains, 0.0, setting.seed)
        self.control = RatioControl(o.trust_region)

    @property
    def led(self) -> list[int]:
        return self.work.groups.led

    def init(self, theta: Tensor) -> APTSPartsState:
        point, _ = self._start(theta, 0)
        fresh = {
            p: Moments(torch.zeros_like(theta), torch.zeros_like(theta)) for p in self.work.own
        }
        return APTSPartsState(point, self.options.trust_region.radius, BlockStates(fresh))

    def step(self, state: APTSPartsState) -> tuple[APTSPartsState, Record]:
        o, k = self.options, state.iteration
        radius = min(state.radius, o.find_factor(k) * o.trust_region.max_radius)
        if radius == 0:
            return state, self._record(state.point, state, o.name_outcome(k))
        point, shares = self._start(state.point.theta, k)  # 1
        with self.setting.timer.phase("local"):  # 2
            steps = {
                p: make_local_steps(share.parts, point, radius, state.moments[p], o)
                for p, share in shares.items()
            }
        trial = self._add_steps(point, shares, steps)  # 3
        decision = self.control.decide(point, trial, radius, [])  # 4
        reached = trial.evaluation if decision.accepted else None
        new = APTSPartsState(
            Point(reached.theta, reached.loss, point.gradient) if reached else point,
            decision.radius,
            BlockStates(state.moments | {p: found.moments for p, found in steps.items()}),
            k + 1,
            decision.accepted,
        )
        return new, self._record(state.point, new, decision.outcome.take_samples())

    def _take_shares(self, iteration: int) -> dict[int, tuple[Objective, Tensor]]:
        """The loss over what this rank's shares have of a mini-batch, and the numbers of that."""
        chosen, found = self.batches.choose(iteration), dict[int, tuple[Objective, Tensor]]()
        for p, share in self.work.own.items():
            common = share.samples
            if chosen is not None:
                common = common[torch.isin(common, chosen, assume_unique=True)]
            if len(common):
                found[p] = share.objective.subset(common), common
        return found

    def _start(self, theta: Tensor, iteration: int) -> tuple[Point, dict[int, ShareOfBatch]]:
        """θ_k with L and g over the mini-batch, and what this rank's shares have of that."""
        with self.setting.timer.phase("local"):
            shares, rows = dict[int, ShareOfBatch](), dict[int, Tensor]()
            for p, (L_p, numbers) in self._take_shares(iteration).items():
                pieces = [each for each in numbers.tensor_split(self.options.parts) if len(each)]
                objectives = [L_p.subset(piece) for piece in pieces]
                points = [evaluate_point(each, theta) for each in objectives]
                found = list(zip(objectives, points, strict=True))
                shares[p] = ShareOfBatch(L_p, [Part(each, at.gradient) for each, at in found])
                terms = [(each.samples, at.loss, at.gradient) for each, at in found]
                rows[p] = make_row(terms, theta)
        loss, g = self._average(rows, theta)
        return Point(theta, loss, g), shares

    def _add_steps(
        self, point: Point, shares: Mapping[int, ShareOfBatch], steps: Mapping[int, LocalSteps]
    ) -> Trial:
        """s, the decrease that the models foresee, and L(θ_k + s) over the mini-batch."""
        theta = point.theta
        sizes = {p: share.objective.samples for p, share in shares.items()}
        own = {p: make_row([(sizes[p], s.decrease, s.step)], theta) for p, s in steps.items()}
        predicted, s = self._average(own, theta)
        if not predicted > 0:
            return Trial(s, predicted, None)
        trial, none = theta + s, theta.new_zeros(0)
        with self.setting.timer.phase("local"):
            losses = {p: share.objective.evaluate(trial).loss for p, share in shares.items()}
        own = {p: make_row([(sizes[p], loss, none)], none) for p, loss in losses.items()}
        loss, _ = self._average(own, none)
        return Trial(s, predicted, Evaluation(self.setting.objective, trial, loss))

    def _average(self, own: Mapping[int, Tensor], like: Tensor) -> tuple[float, Tensor]:
        """The means over the mini-batch of a number and a vector, of the shares' rows; collective.

        The work done since the last average goes with them.

        Args:
            own: of this rank's shares with a sample in the mini-batch; see `make_row`.
            like: a vector of the length and the precision of the mean.
        """
        work = {p: share.objective.counts for p, share in self.work.own.items()}
        none = like.new_zeros(2 + len(like), dtype=torch.float64)
        rows = {p: (own.get(p, none), counts) for p, counts in work.items()}
        sizes = [len(none)] * self.options.subdomains
        received = self.work.groups.gather_with_work(rows, sizes, self.setting.counts)
        for counts in work.values():
            counts.loss_work = counts.gradient_work = counts.hvp_work = 0
        total = received[0].clone()
        for row in received[1:]:
            total += row
        samples, number = total[:2].tolist()
        return number / samples, (total[2:] / samples).to(like.dtype)

    def _record(self, old: Point, new: APTSPartsState, outcome: Outcome) -> Record:
        o = self.options
        return Record(
            loss=new.point.loss,
            gradient_norm=norm(new.point.gradient),
            step_length=length(new.point.theta - old.theta, "inf"),
            nominal_gradient_evaluations=self.batches.fraction * (3 - 1 / o.parts),
            update_cost=o.parts,
            outcome=outcome,
            epoch=self.batches.count_epochs(new.iteration),
            ends_epoch=self.batches.ends_epoch(new.iteration),
            details={"radius": new.radius, "trial_accepted": float(new.accepted)},
        )

    def describe(self) -> list[str]:
        o = self.options
        region = o.trust_region
        return [
            f"apts-parts: {o.subdomains} shares of the samples, {o.parts} parts of each",
            f"local: a step on each part, corrected to first order, diagonal model, "
            f"beta {o.beta1:g} and {o.beta2:g}, epsilon {o.epsilon:g}",
            f"trial: the mean of the shares' steps, {self.control.describe()}",
            f"radius {region.radius:g} in [{region.min_radius:g}, {region.max_radius:g}], inf-norm",
            *o.describe_decay(),
            self.batches.describe(),
        ]


def make_local_steps(
    parts: Sequence[Part], start: Point, radius: float, before: Moments, options: APTSPartsOptions
) -> LocalSteps:
    """A step on each part of a share, each at most an equal part of Δ; see 2 above.

    Args:
        parts: L_pj and g_pj.
        start: θ_k with g.
        radius: Δ_k.
        before: m, v and t.
    """
    o, g, theta, decrease = options, start.gradient, start.theta, 0.0
    m, v, t = before.m, before.v, before.t
    for j, part in enumerate(parts):
        alpha, d = radius / len(parts), g
        if j > 0:
            there = part.objective.evaluate_with_gradient(theta).evaluate_gradient()
            d = there + (g - part.gradient)
        t += 1
        m = o.beta1 * m + (1 - o.beta1) * d
        v = o.beta2 * v + (1 - o.beta2) * d * d
        m_hat, D = m / (1 - o.beta1**t), (v / (1 - o.beta2**t)).sqrt() + o.epsilon
        s = (m_hat / D).mul_(-alpha).clamp_(-alpha, alpha)
        decrease -= dot(m_hat, s) + dot(s, D * s) / (2 * alpha)
        theta = theta + s
    step = theta - start.theta
    if not (math.isfinite(decrease) and bool(torch.isfinite(step).all())):
        return LocalSteps(torch.zeros_like(step), 0.0, before)
    return LocalSteps(step, decrease, Moments(m, v, t))


def make_row(values: Sequence[tuple[int, float, Tensor]], like: Tensor) -> Tensor:
    """The samples n_j, Σ n_j x_j and Σ n_j g_j of some parts, in one row of float64."""
    samples = sum(n for n, _, _ in values)
    number = math.fsum(n * x for n, x, _ in values)
    total = like.new_zeros(len(like), dtype=torch.float64)
    for n, _, g in values:
        total.add_(g, alpha=n)
    return torch.cat([total.new_tensor([samples, number]), total])
