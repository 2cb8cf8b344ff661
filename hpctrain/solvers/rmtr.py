"""RMTR: recursive multilevel trust region for networks whose depth is halved from level to level.

    for each mini-batch:
        one cycle on it, from the network that is trained down       (`multilevel.cycles`)
        at the end of an epoch: the mini-batches double if they misled   (`multilevel.batch_growth`)
        at the end of a stage: the next finer network is trained
            (`multilevel.cascade`), from what was learnt so far          (`multilevel.refinement`)

Each level makes trust-region steps; its L-SR1 memory and its radius are kept from cycle to cycle,
since its network stays the same where the samples change. Coarse steps keep ‖I s‖ ≤ Δ, and a
correction is taken, and Δ adapted, by ρ = fine decrease / coarse decrease. This Δ is not that of
the level's own steps: the coarser network and L-SR1 are two models of the same loss, and the
network is good much farther.

With one level it is the single-level trust region; with line-search control it is MG/OPT.

A work unit is one gradient of the finest network on all samples. A gradient on level l and a batch
B costs c_l / c_L · |B| / |D| of it, c_l being the multiply-adds of the level's network for one
sample: about K_l / K_L, and a little more, as all levels have the first and the last layer.

Source: Kopaničáková and Krause, Globally convergent multilevel training of deep residual networks,
SIAM Journal on Scientific Computing 45(3) (2023), arXiv 2107.07572.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import norm
from hpctrain.methods.multilevel.batch_growth import BatchGrowth, Epoch
from hpctrain.methods.multilevel.cascade import Cascade, Stage, check_batch_sizes, check_stages
from hpctrain.methods.multilevel.cycles import (
    Control,
    Cycle,
    Level,
    LineSearchControl,
    Room,
    TrustRegionControl,
)
from hpctrain.methods.multilevel.hierarchy import Hierarchy
from hpctrain.methods.multilevel.refinement import HalfStepFit, LevelKnowledge, carry_knowledge
from hpctrain.methods.multilevel.smoothers import TrustRegionSteps
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.sampling.mini_batches import make_mini_batches
from hpctrain.methods.search.armijo import ArmijoOptions
from hpctrain.methods.trust_region.options import ModelOptions, check_model, make_rule
from hpctrain.networks.transfers import Rule
from hpctrain.objective import Point, evaluate_point
from hpctrain.options import refuse_idle
from hpctrain.solvers.base import Need, Record, Setting, Solver


class RMTROptions(ModelOptions):
    """Settings of RMTR; the model and the trust region are those of the steps on every level."""

    name: Literal["rmtr"] = "rmtr"
    levels: int = Field(3, ge=1, description="L; 1 is the single-level trust region")
    transfer: Rule = Field(
        "constant", description="of blocks in depth: constant for K = 2 K_c, linear for 2 K_c - 1"
    )
    cycle: Cycle = Field("F", description="V or F")
    pre_smoothing: int = Field(
        2, ge=0, description="steps before a correction, μ₁; all there are on a single level"
    )
    post_smoothing: int = Field(2, ge=0, description="steps after a correction, μ₂")
    coarse_steps: int = Field(10, ge=1, description="steps on the coarsest level")
    control: Literal["trust-region", "line-search"] = Field(
        "trust-region", description="of corrections: RMTR, or Armijo backtracking as in MG/OPT"
    )
    kappa: float = Field(
        0.1, ge=0, lt=1, description="κ: a coarser level is visited only if ‖R g‖ ≥ κ ‖g‖"
    )
    batch_size: int = Field(1000, ge=1, description="samples of a mini-batch at first")
    zeta: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="ζ: batches are doubled if the loss falls by less than this part of the sum"
        " of their decreases in an epoch; 0 where it rises",
    )
    cascade: list[Stage] = Field(
        [], description="stages in which networks are trained first, the coarsest first"
    )
    fit_samples: int = Field(
        1000,
        ge=0,
        description="samples by which the half steps of the next finer network are fitted to the"
        " steps of the one trained (constant transfer); 0: copies",
    )
    line_search: ArmijoOptions = Field(
        ArmijoOptions(), description="constants of Armijo backtracking"
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "RMTROptions":
        if self.pre_smoothing == 0 and self.levels == 1:
            raise ValueError("a level without a coarser one needs pre_smoothing of at least 1")
        check_stages(self.cascade, self.levels)
        self._refuse_idle_settings()
        return self

    def _refuse_idle_settings(self) -> None:
        if self.levels == 1:
            of_several = "transfer", "post_smoothing", "coarse_steps", "control", "kappa"
            refuse_idle(self, dict.fromkeys([*of_several, "line_search"], "with levels = 1"))
        if self.levels < 3:
            refuse_idle(self, {"cycle": f"with levels = {self.levels}: V and F are the same"})
        if self.control == "line-search":
            refuse_idle(self, {"kappa": 'with control = "line-search"'})
        else:
            refuse_idle(self, {"line_search": 'with control = "trust-region"'})
        if self.transfer == "linear":
            refuse_idle(self, {"fit_samples": 'with transfer = "linear"'})
        if all(stage.level == self.levels for stage in self.cascade):
            refuse_idle(self, {"fit_samples": "without a coarser level in the cascade"})


@dataclass
class RMTRState:
    """θ, the network that is trained, and what is known of each level.

    Attributes:
        point: θ of the finest network, with the loss and gradient on the last mini-batch; while a
            coarser one is trained, its loss, with its θ and gradient prolonged.
        depth: how far below the finest level the trained network is.
        levels: the radii and L-SR1 of each level, the finest first.
        epoch: the mini-batches.
        known: samples that the loss and the gradient are of; 0 where they are a coarser network's.
        seen: samples of all mini-batches so far.
        stage: of the cascade; past its last one cycles are made from the finest level.
        trained: the point of the network that is trained, if that is a coarser one.
        outcome: of the last step on the trained network.
    """

    point: Point
    depth: int
    levels: list[LevelKnowledge]
    epoch: Epoch
    known: int
    seen: int = 0
    stage: int = 0
    trained: Point | None = None
    outcome: Outcome = Outcome.ACCEPTED


class RMTR(Solver[RMTRState]):
    """One iteration is one cycle on a mini-batch."""

    names = ("rmtr",)
    Options = RMTROptions
    needs = frozenset({Need.SUBSETS})
    columns = ("batch_size", "radius", "reach", "level")

    @classmethod
    def takes_batches(cls, options: RMTROptions) -> bool:
        return True

    def __init__(self, setting: Setting, options: RMTROptions) -> None:
        super().__init__(setting, options)
        L, o, seed, samples = setting.objective, options, setting.seed, setting.objective.samples
        check_model(L, o)
        make_mini_batches(L, seed, o.batch_size)
        check_batch_sizes(o.cascade, samples)
        need = Need.COARSER_NETWORKS
        if o.levels > 1 and not need.is_met(L):
            raise InputError(f"solver.levels = {o.levels} is not allowed: {need.value}")
        self.hierarchy = Hierarchy.halve(L, o.levels, o.transfer)
        self.rule = make_rule(o)
        self.control = _choose_control(o)
        self.batches = BatchGrowth(samples, seed, o.zeta)
        self.cascade = Cascade(o.cascade, o.levels, o.batch_size, samples)
        # No two blocks of a network with linear transfer make half steps of one.
        fitted = min(o.fit_samples, samples) if o.transfer == "constant" else 0
        self.fit = HalfStepFit(fitted, seed)

    def init(self, theta: Tensor) -> RMTRState:
        o, depth = self.options, self.cascade.depth(0)
        with self.setting.timer.phase("global"):
            own = evaluate_point(
                self.hierarchy.networks[depth], self.hierarchy.sample(theta, depth)
            )
        radius = o.trust_region.radius
        return RMTRState(
            point=self.hierarchy.prolong(own, depth),
            depth=depth,
            levels=[LevelKnowledge(radius, radius) for _ in range(o.levels)],
            epoch=Epoch(self.cascade.first_batch_size(0, o.batch_size), own.loss),
            known=self.setting.objective.samples,
            trained=own if depth else None,
        )

    def step(self, state: RMTRState) -> tuple[RMTRState, Record]:
        counts = self.setting.counts
        before = counts.gradient_evaluations
        with self.setting.timer.phase("global"):
            after_cycle = new = self._make_cycle(state)
            if self.batches.is_over(new.epoch):
                new = self._end_epoch(new)
            if self.cascade.is_over(new.stage, new.seen):
                new = self._begin_next_stage(new)
        return new, self._record(state, after_cycle, new, counts.gradient_evaluations - before)

    def _make_cycle(self, state: RMTRState) -> RMTRState:
        """One cycle on the next mini-batch, from the network that is trained down."""
        levels, depth = self._assemble_levels(state), state.depth
        h, start = levels[0].objective, state.trained or state.point
        # Only what is known of all samples holds for the next iteration's too.
        if not h.samples == state.known == self.setting.objective.samples:
            start = evaluate_point(h, start.theta)
        end = levels[0].visit(h, start, self.options.cycle, Room(start.theta))
        visited = [LevelKnowledge(each.radius, each.reach, each.memory) for each in levels]
        below = depth + len(levels)
        return replace(
            state,
            point=self.hierarchy.prolong(end.point, depth),
            levels=[*state.levels[:depth], *visited, *state.levels[below:]],
            epoch=self.batches.add(state.epoch, start.loss - end.point.loss),
            known=h.samples,
            seen=state.seen + h.samples,
            trained=end.point if depth else None,
            outcome=end.outcome,
        )

    def _assemble_levels(self, state: RMTRState) -> list[Level]:
        """The trained level and those below it that are visited, on the next mini-batch."""
        chosen, alone = self.batches.choose(state.epoch), self.cascade.steps(state.stage)
        last = state.depth if alone else self.options.levels - 1
        levels = list[Level]()
        for depth in range(last, state.depth - 1, -1):
            L, known = self.hierarchy.networks[depth], state.levels[depth]
            level = Level(
                L if chosen is None else L.subset(chosen),
                TrustRegionSteps(self.rule),
                (alone, 0) if alone else self._count_steps(depth),
                coarser=levels[0] if levels else None,
                control=self.control,
                transfer=self.hierarchy.transfers[depth - 1] if depth > state.depth else None,
                radius=known.radius,
                memory=known.memory,
                reach=known.reach,
            )
            levels.insert(0, level)
        return levels

    def _count_steps(self, depth: int) -> tuple[int, int]:
        """(μ₁, μ₂) in a cycle."""
        o = self.options
        is_coarsest = depth == o.levels - 1 > 0
        return (o.coarse_steps, 0) if is_coarsest else (o.pre_smoothing, o.post_smoothing)

    def _end_epoch(self, state: RMTRState) -> RMTRState:
        """The mini-batches double if they misled."""
        point, L = state.trained or state.point, self.hierarchy.networks[state.depth]
        epoch = self.batches.begin_next(
            state.epoch, point.loss, lambda: L.evaluate(point.theta).loss
        )
        return replace(state, epoch=epoch)

    def _begin_next_stage(self, state: RMTRState) -> RMTRState:
        """The next stage, or what follows the last one, in an epoch of its own."""
        number, epoch = state.stage + 1, state.epoch
        state = replace(state, stage=number)
        while state.depth > self.cascade.depth(number):
            state = self._refine_network(state)
        point, loss = state.trained or state.point, math.nan
        if self.cascade.fills_epoch(number):
            loss = self.hierarchy.networks[state.depth].evaluate(point.theta).loss
        size = self.cascade.first_batch_size(number, epoch.batch_size)
        return replace(state, epoch=Epoch(size, loss, epoch.number + (epoch.index > 0)))

    def _refine_network(self, state: RMTRState) -> RMTRState:
        """The next finer network takes the place of the one trained so far, and goes on from it."""
        own, depth, levels = state.trained, state.depth - 1, list(state.levels)
        assert own is not None
        coarse, transfer = self.hierarchy.networks[state.depth], self.hierarchy.transfers[depth]
        theta = self.fit.refine(coarse, transfer, own.theta, draw=state.epoch.number)
        levels[depth] = carry_knowledge(levels[depth + 1], levels[depth].reach, transfer, self.rule)
        own = Point(theta, own.loss, transfer.lift(own.gradient))
        return replace(
            state,
            point=self.hierarchy.prolong(own, depth),
            depth=depth,
            levels=levels,
            known=0,
            trained=own if depth else None,
        )

    def _record(
        self, old: RMTRState, after_cycle: RMTRState, new: RMTRState, gradients: float
    ) -> Record:
        last = after_cycle.trained or after_cycle.point
        length = norm(after_cycle.point.theta - old.point.theta)
        is_exact = new.depth == 0 and old.epoch.batch_size == self.setting.objective.samples
        outcome = new.outcome if is_exact else new.outcome.take_samples()
        if length and not outcome.is_final:  # the last step may be refused where others were taken
            outcome = Outcome.ACCEPTED
        return Record(
            loss=last.loss,
            gradient_norm=norm(last.gradient),
            step_length=length,
            nominal_gradient_evaluations=gradients,
            update_cost=1,
            outcome=outcome,
            epoch=new.seen / self.setting.objective.samples,
            ends_epoch=new.epoch.index == 0,
            details={
                "batch_size": float(old.epoch.batch_size),
                "radius": new.levels[old.depth].radius,
                "reach": new.levels[old.depth].reach,
                "level": float(self.options.levels - old.depth),
            },
        )

    def describe(self) -> list[str]:
        o, model = self.options, self.rule.describe_model()
        sizes = " > ".join(str(each.parameters) for each in self.hierarchy.networks)
        steps = f"{o.pre_smoothing} + {o.post_smoothing} smoothing steps, {o.coarse_steps} coarse"
        begins = f"finer networks begin by half steps fitted on {self.fit.samples} samples"
        method = [f"single-level trust region, {o.pre_smoothing} steps a batch, {model}"]
        if o.levels > 1:
            method = [
                f"recursive multilevel trust region, {o.levels} levels of {sizes} parameters,"
                f" {o.transfer} in depth",
                f"{o.cycle}-cycle, {steps}, {model}, corrections controlled by {o.control}, kappa"
                f" {o.kappa:g}",
            ]
        return [
            *method,
            f"mini-batches of at most {o.batch_size} samples at first, doubled below zeta ="
            f" {o.zeta:g}",
            *(stage.describe() for stage in o.cascade),
            *([begins] if o.cascade and self.fit.samples else []),
            self.rule.describe_control(),
        ]


def _choose_control(options: RMTROptions) -> Control:
    """Of corrections."""
    if options.control == "line-search":
        return LineSearchControl(options.line_search)
    return TrustRegionControl(options.trust_region, options.kappa)
