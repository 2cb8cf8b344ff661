"""RMTR: recursive multilevel trust region for networks whose depth is halved from level to level.

Every iteration is one cycle (`multilevel`) on a mini-batch, with trust-region steps on each level,
whose L-SR1 memories and radii are kept: the networks stay the same where the samples change. Coarse
steps keep ‖I s‖ ≤ Δ, and a correction is taken, and Δ adapted, by ρ = fine decrease / coarse
decrease. This Δ is not that of the level's own steps: the coarser network and L-SR1 are two models
of the same loss, and the network is good much farther.

After an epoch, with L of all samples and L_b, s_b of its mini-batches,

    (L(θ_before) - L(θ_after)) / Σ_b (L_b(θ_b) - L_b(θ_b + s_b)) < ζ   ⇒   the batches are doubled

so that the stochastic method ends as the deterministic one. With one level it is the single-level
trust region; with line-search control it is MG/OPT.

A cascade trains shallower networks first, in stages. The next finer network begins at their
prolonged θ, with their L-SR1 prolonged too: I s and Pᵀ y, as (I s)ᵀ(Pᵀ y) = sᵀy. Copies of blocks
make two half steps for one, with an error of dt²/4 F'F a block, which costs accuracy; so the second
of the two is fitted (`transfers.second_half_step`). As in full multigrid, the first guess
on a level takes a prolongation of higher order than corrections do.

A work unit is one gradient of the finest network on all samples. A gradient on level l and a batch
B costs c_l / c_L · |B| / |D| of it, c_l being the multiply-adds of the level's network for one
sample: about K_l / K_L, and a little more, as all levels have the first and the last layer.

Source: Kopaničáková and Krause, Globally convergent multilevel training of deep residual networks,
SIAM Journal on Scientific Computing 45(3) (2023), arXiv 2107.07572.
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.errors import InputError
from hpctrain.linalg.vectors import norm
from hpctrain.methods.multilevel.cycles import (
    Control,
    Cycle,
    Level,
    LineSearchControl,
    Room,
    TrustRegionControl,
)
from hpctrain.methods.multilevel.smoothers import TrustRegionSteps
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.sampling.epochs import batch, batches_per_epoch
from hpctrain.methods.sampling.mini_batches import mini_batches
from hpctrain.methods.search.armijo import ArmijoOptions
from hpctrain.methods.trust_region.options import ModelOptions, check_model, make_rule
from hpctrain.networks.transfers import Rule, Transfer
from hpctrain.objective import Point, evaluate
from hpctrain.options import Options
from hpctrain.solvers.base import Need, Record, Setting, Solver

# A batch that led to too small a decrease of the whole loss is made larger by this factor.
BATCH_GROWTH = 2


class Stage(Options):
    """A part of the cascade: the network of one level is trained for some epochs."""

    level: int = Field(ge=1, description="of the network; 1 is the coarsest")
    epochs: float = Field(gt=0, description="passes over the samples, also a part of one")
    batch_size: int | None = Field(
        None, ge=1, description="samples of a mini-batch at first; as the stage before left it"
    )
    steps: int | None = Field(
        None, ge=1, description="on a mini-batch, without coarser levels; a cycle if left out"
    )


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
    line_search: ArmijoOptions = ArmijoOptions()

    @model_validator(mode="after")
    def _settings_agree(self) -> "RMTROptions":
        if self.pre_smoothing == 0 and self.levels == 1:
            raise ValueError("a level without a coarser one needs pre_smoothing of at least 1")
        trained = [stage.level for stage in self.cascade]
        if any(b < a for a, b in pairwise([*trained, self.levels])):
            raise ValueError(f"cascade: its levels must not fall, nor exceed {self.levels}")
        return self


@dataclass
class Epoch:
    """Where the mini-batches stand.

    Attributes:
        batch_size: at most so many samples each.
        number: epochs so far.
        index: mini-batches of this epoch so far.
        loss: L of all samples where the epoch began; NaN in a stage that ends before the epoch.
        decreases: the sum of its mini-batches' decreases.
    """

    batch_size: int
    loss: float
    number: int = 0
    index: int = 0
    decreases: float = 0.0


@dataclass
class LevelKnowledge:
    """What a level keeps from one cycle to the next: see `LevelState`."""

    radius: float
    reach: float
    memory: LSR1 = field(default_factory=LSR1)


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

    def __init__(self, setting: Setting, options: RMTROptions) -> None:
        super().__init__(setting, options)
        check_model(setting.objective, options)
        self.rule = make_rule(options)
        mini_batches(setting.objective, setting.seed, options.batch_size)
        samples = setting.objective.samples
        for size in (stage.batch_size or 1 for stage in options.cascade):
            if size > samples:
                raise InputError(
                    f"solver.cascade: batch_size = {size} is not allowed: at most {samples}, the"
                    " number of samples"
                )
        self.networks, self.transfers = [setting.objective], list[Transfer]()
        need = Need.COARSER_NETWORKS
        if options.levels > 1 and not need.is_met(setting.objective):
            raise InputError(f"solver.levels = {options.levels} is not allowed: {need.value}")
        for _ in range(1, options.levels):
            try:
                coarse, transfer = self.networks[-1].coarsened(options.transfer)
            except InputError as error:
                raise InputError(
                    f"solver.levels = {options.levels} is not allowed: {error}"
                ) from error
            self.networks.append(coarse)
            self.transfers.append(transfer)

    def init(self, theta: Tensor) -> RMTRState:
        o, samples = self.options, self.setting.objective.samples
        depth = self._depth(0)
        with self.setting.timer.phase("global"):
            for transfer in self.transfers[:depth]:
                theta = transfer.sample(theta)
            own = evaluate(self.networks[depth], theta)
        return RMTRState(
            point=self._prolonged(own, depth),
            depth=depth,
            levels=[
                LevelKnowledge(o.trust_region.radius, o.trust_region.radius)
                for _ in range(o.levels)
            ],
            epoch=Epoch(self._first_size(0, o.batch_size), own.loss),
            known=samples,
            trained=own if depth else None,
        )

    def step(self, state: RMTRState) -> tuple[RMTRState, Record]:
        counts = self.setting.counts
        before = counts.gradient_evaluations
        with self.setting.timer.phase("global"):
            new = self._cycle(state)
            last = new.trained or new.point
            length = norm(new.point.theta - state.point.theta)
            if new.epoch.index == self._batches(state.epoch):
                new = self._after_epoch(new)
            if new.stage < len(self._ends) and new.seen >= self._ends[new.stage]:
                new = self._after_stage(new)
        is_exact = new.depth == 0 and state.epoch.batch_size == self.setting.objective.samples
        outcome = new.outcome if is_exact else new.outcome.of_samples()
        if length and not outcome.is_final:  # the last step may be refused where others were taken
            outcome = Outcome.ACCEPTED
        return new, Record(
            loss=last.loss,
            gradient_norm=norm(last.gradient),
            step_length=length,
            nominal_gradient_evaluations=counts.gradient_evaluations - before,
            update_cost=1,
            outcome=outcome,
            epoch=new.seen / self.setting.objective.samples,
            ends_epoch=new.epoch.index == 0,
            details={
                "batch_size": float(state.epoch.batch_size),
                "radius": new.levels[state.depth].radius,
                "reach": new.levels[state.depth].reach,
                "level": float(self.options.levels - state.depth),
            },
        )

    def _cycle(self, state: RMTRState) -> RMTRState:
        """One cycle on the next mini-batch, from the network that is trained down."""
        levels, depth, epoch = self._levels(state), state.depth, state.epoch
        h, start = levels[0].objective, state.trained or state.point
        # Only what is known of all samples holds for the next iteration's too.
        if not h.samples == state.known == self.setting.objective.samples:
            start = evaluate(h, start.theta)
        end = levels[0].visit(h, start, self.options.cycle, Room(start.theta))
        decreases = epoch.decreases + start.loss - end.point.loss
        return replace(
            state,
            point=self._prolonged(end.point, depth),
            levels=[
                *state.levels[:depth],
                *(LevelKnowledge(each.radius, each.reach, each.memory) for each in levels),
                *state.levels[depth + len(levels) :],
            ],
            epoch=replace(epoch, index=epoch.index + 1, decreases=decreases),
            known=h.samples,
            seen=state.seen + h.samples,
            trained=end.point if depth else None,
            outcome=end.outcome,
        )

    def _levels(self, state: RMTRState) -> list[Level]:
        """The trained level and those below it that are visited, on the next mini-batch."""
        solver, control, stage = (
            TrustRegionSteps(self.rule),
            self._control,
            self._stage(state.stage),
        )
        # Of a stage on the trained level only; None where cycles are made.
        alone = None if stage is None else stage.steps
        chosen, levels = self._chosen(state.epoch), list[Level]()
        depths = [state.depth] if alone else range(state.depth, self.options.levels)
        for depth in reversed(depths):
            L = self.networks[depth]
            known, corrects = state.levels[depth], depth > state.depth
            level = Level(
                L if chosen is None else L.subset(chosen),
                solver,
                (alone, 0) if alone else self._steps(depth),
                levels[0] if levels else None,
                control,
                self.transfers[depth - 1] if corrects else None,
                known.radius,
                known.memory,
                known.reach,
            )
            levels.insert(0, level)
        return levels

    def _chosen(self, epoch: Epoch) -> Tensor | None:
        """The numbers of the next mini-batch's samples, ascending; None for all of them."""
        samples = self.setting.objective.samples
        if epoch.batch_size == samples:
            return None
        return batch(self.setting.seed, epoch.number, epoch.index, epoch.batch_size, samples)

    def _steps(self, depth: int) -> tuple[int, int]:
        """(μ₁, μ₂) in a cycle."""
        o = self.options
        is_coarsest = depth == o.levels - 1 > 0
        return (o.coarse_steps, 0) if is_coarsest else (o.pre_smoothing, o.post_smoothing)

    @property
    def _control(self) -> Control:
        o = self.options
        if o.control == "line-search":
            return LineSearchControl(o.line_search)
        return TrustRegionControl(o.trust_region, o.kappa)

    def _after_epoch(self, state: RMTRState) -> RMTRState:
        """Doubles the batches if they misled."""
        samples, epoch = self.setting.objective.samples, state.epoch
        point, size = state.trained or state.point, epoch.batch_size
        loss = point.loss
        if size < samples and not math.isnan(epoch.loss):
            loss = self.networks[state.depth].at(point.theta).loss
            if not epoch.loss - loss > self.options.zeta * epoch.decreases:
                size = min(BATCH_GROWTH * size, samples)
        return replace(state, epoch=Epoch(size, loss, epoch.number + 1))

    def _after_stage(self, state: RMTRState) -> RMTRState:
        """The next stage, or what follows the last one, in an epoch of its own."""
        number, epoch = state.stage + 1, state.epoch
        stage, size = self._stage(number), self._first_size(number, epoch.batch_size)
        state = replace(state, stage=number)
        while state.depth > self._depth(number):
            state = self._refined(state)
        point, loss = state.trained or state.point, math.nan
        if stage is None or stage.epochs >= 1:
            loss = self.networks[state.depth].at(point.theta).loss
        return replace(state, epoch=Epoch(size, loss, epoch.number + (epoch.index > 0)))

    def _refined(self, state: RMTRState) -> RMTRState:
        """The next finer network in the place of the one trained so far, whose θ is prolonged."""
        assert state.trained is not None
        depth = state.depth - 1
        transfer, own, levels = self.transfers[depth], state.trained, list(state.levels)
        levels[depth] = self._carried(levels[depth + 1], levels[depth].reach, transfer)
        own = Point(self._fitted(state), own.loss, transfer.lift(own.gradient))
        return replace(
            state,
            point=self._prolonged(own, depth),
            depth=depth,
            levels=levels,
            known=0,
            trained=own if depth else None,
        )

    def _fitted(self, state: RMTRState) -> Tensor:
        """θ of the next finer network, whose blocks make half the steps of the trained one's."""
        assert state.trained is not None
        theta, coarse = state.trained.theta, self.networks[state.depth]
        transfer, size = self.transfers[state.depth - 1], self._fit_samples
        if size == 0:
            return transfer.prolong(theta)
        chosen = batch(self.setting.seed, state.epoch.number, 0, size, coarse.samples)
        return transfer.refine(theta, coarse.subset(chosen).half_step_systems(theta))

    def _carried(self, below: LevelKnowledge, reach: float, transfer: Transfer) -> LevelKnowledge:
        """What a level knows at first of what was learnt on the next coarser one."""
        memory = LSR1()
        for s, y in zip(below.memory.s, below.memory.y, strict=True):
            memory = self.rule.model.learn(memory, transfer.prolong(s), partial(transfer.lift, y))
        radius = min(transfer.stretch * below.radius, self.options.trust_region.max_radius)
        return LevelKnowledge(radius, reach, memory)

    @property
    def _fit_samples(self) -> int:
        """Samples of a fit; 0 where blocks are copied, or no two make half steps of one."""
        o = self.options
        return min(o.fit_samples, self.setting.objective.samples) if o.transfer == "constant" else 0

    @property
    def _ends(self) -> list[int]:
        """Samples seen at the end of each stage."""
        epochs = accumulate(stage.epochs for stage in self.options.cascade)
        return [round(each * self.setting.objective.samples) for each in epochs]

    def _stage(self, number: int) -> Stage | None:
        """A stage of the cascade; None past its last one."""
        stages = self.options.cascade
        return stages[number] if number < len(stages) else None

    def _depth(self, number: int) -> int:
        """How far below the finest level a stage's network is."""
        stage = self._stage(number)
        return 0 if stage is None else self.options.levels - stage.level

    def _first_size(self, number: int, before: int) -> int:
        """Samples of the first mini-batches of a stage."""
        stage = self._stage(number)
        return self.options.batch_size if stage is None else stage.batch_size or before

    def _batches(self, epoch: Epoch) -> int:
        return batches_per_epoch(self.setting.objective.samples, epoch.batch_size)

    def _prolonged(self, point: Point, depth: int) -> Point:
        """A point of the network at a depth below the finest, as one of the finest."""
        if depth == 0:
            return point
        theta, gradient = point.theta, point.gradient
        for transfer in reversed(self.transfers[:depth]):
            theta, gradient = transfer.prolong(theta), transfer.prolong(gradient)
        return Point(theta, point.loss, gradient)

    def describe(self) -> list[str]:
        o = self.options
        sizes = " > ".join(str(each.parameters) for each in self.networks)
        batches = f"mini-batches of at most {o.batch_size} samples at first"
        steps = f"{o.pre_smoothing} + {o.post_smoothing} smoothing steps, {o.coarse_steps} coarse"
        begins = f"finer networks begin by half steps fitted on {self._fit_samples} samples"
        fits = [begins] if o.cascade and self._fit_samples else []
        region = [*map(self._described, o.cascade), *fits, self.rule.describe_control()]
        if o.levels == 1:
            return [
                f"single-level trust region, {o.pre_smoothing} steps a batch,"
                f" {self.rule.describe_model()}",
                f"{batches}, doubled below zeta = {o.zeta:g}",
                *region,
            ]
        return [
            f"recursive multilevel trust region, {o.levels} levels of {sizes} parameters,"
            f" {o.transfer} in depth",
            f"{o.cycle}-cycle, {steps}, {self.rule.describe_model()}, corrections controlled by"
            f" {o.control}, kappa {o.kappa:g}",
            f"{batches}, doubled below zeta = {o.zeta:g}",
            *region,
        ]

    def _described(self, stage: Stage) -> str:
        work = f"{stage.steps} steps a batch" if stage.steps else "by cycles"
        size = f", batches of {stage.batch_size} at first" if stage.batch_size else ""
        return f"before, level {stage.level} for {stage.epochs:g} epochs, {work}{size}"
