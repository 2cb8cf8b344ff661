"""Schwarz-preconditioned quasi-Newton: ASPQN (additive) and MSPQN (multiplicative).

A right-preconditioned quasi-Newton method on ∇L(G(θ)) = 0, where G is one sweep of local
minimisations over blocks of layers, with a coarse step before it where one is asked for. Outer
iteration k:

    0. coarse step        θ_k ← θ_k + α E_c (θ_c* - R_c θ_k), k_c steps of L-BFGS on θ_c ↦ L, where
                          c is the first layer of each block; α by a search on L
    1. local step         θ_s* ≈ argmin over θ_s of L, by k_s steps, all else frozen
    2. synchronisation    θ_{k+1/2} = θ_k + α_k d,   d = Σ_s E_s (θ_s* - R_s θ_k) / w
    3. quasi-Newton step  p = -H ∇L(θ_{k+1/2})
    4. momentum           v ← (1-μ) v + μ p
    5. global update      θ_{k+1} = θ_{k+1/2} + β_k v
    6. secant pair        s = θ_{k+1} - θ_{k+1/2},  y = ∇L(θ_{k+1}) - ∇L(θ_{k+1/2})

ASPQN starts every block from R_s θ_k and synchronises as `synchronisation` says; w is the number of
blocks that own a parameter, 1 without overlap. MSPQN goes through the blocks from input to output,
each sees its predecessors' results, and α_k = 1; where blocks overlap the later one goes on from
the earlier one's result, so that nothing is divided by w. Steps 3 to 6 may be repeated.

Sources: Kopaničáková, Kothari, Karniadakis, Krause, SISC 46(5), 2024 (arXiv 2306.17648), algorithm
4.1; overlap, coarse step and synchronisation: Lee, Kopaničáková, Karniadakis, arXiv 2406.10997,
and Salvadó-Benasco et al., arXiv 2601.08709.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.decomposition.blocks import Block, Excess, find_excess
from hpctrain.linalg.vectors import norm
from hpctrain.methods.outcomes import Outcome
from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian
from hpctrain.methods.quasi_newton.lbfgs import LBFGSState
from hpctrain.methods.quasi_newton.self_scaled import SelfScaledMethod, SelfScaledState
from hpctrain.methods.quasi_newton.update_cost import count_pairs
from hpctrain.methods.schwarz.block_solvers import (
    LBFGSMemory,
    LocalLBFGS,
    LocalSelfScaled,
    LocalSolver,
    LocalTrustRegion,
    TrustRegionMemory,
    choose_row_ranks,
    take_steps,
)
from hpctrain.methods.schwarz.blocks import BlockWork
from hpctrain.methods.schwarz.global_steps import GlobalLBFGS, GlobalMethod, GlobalSelfScaled
from hpctrain.methods.schwarz.synchronisation import (
    SYNCHRONISATIONS,
    count_gradients,
    search_along,
)
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.methods.trust_region.control import TrustRegionOptions
from hpctrain.objective import Counts, Objective, Point, evaluate_point
from hpctrain.options import Options
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.rows import find_row_ranges
from hpctrain.solvers.base import Record, Setting, Solver
from hpctrain.store.state import BlockStates

MOMENTUM = 0.9


class SPQNOptions(Options):
    """Settings of ASPQN and MSPQN."""

    name: Literal["aspqn", "mspqn"] = "aspqn"
    blocks: int = Field(8, ge=1, description="S, groups of consecutive layers")
    overlap: int = Field(0, ge=0, description="layers a block reaches into each neighbour")
    coarse_steps: int = Field(
        0, ge=0, description="k_c, L-BFGS iterations on the first layer of every block; 0 is none"
    )
    local_solver: Literal["lbfgs", "ssbroyden", "trust-region"] = Field(
        "lbfgs", description="solves the blocks; the trust region has an L-SR1 model"
    )
    local_steps: int = Field(50, ge=1, description="k_s, iterations of a local solve")
    keep_local_memory: bool = Field(
        False, description="keep what a local solver remembers for the block's next solve"
    )
    synchronisation: Literal["common", "block-wise", "subspace"] = Field(
        "common", description="step lengths of ASPQN: one for all blocks, or one for each"
    )
    global_solver: Literal["lbfgs", "ssbroyden"] = Field(
        "lbfgs", description="the method that is preconditioned"
    )
    global_steps: int = Field(1, ge=1, description="its steps after each synchronisation")
    memory: int = Field(3, ge=1, description="secant pairs of L-BFGS, globally and locally")
    local_memory: int | None = Field(
        None, ge=1, description="secant pairs of local solvers; by default as many as memory"
    )
    momentum: float = Field(
        MOMENTUM, gt=0, le=1, description="of the global L-BFGS, weight of the new direction"
    )
    local_momentum: float = Field(
        1.0, gt=0, le=1, description="of the blocks' L-BFGS, weight of the new direction"
    )
    line_search: LineSearchOptions = Field(
        LineSearchOptions(), description="constants of the line search, strong Wolfe"
    )
    trust_region: TrustRegionOptions = Field(
        TrustRegionOptions(), description='the radius of local_solver = "trust-region", its control'
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "SPQNOptions":
        if self.name == "mspqn" and self.synchronisation != "common":
            raise ValueError(
                f'synchronisation = "{self.synchronisation}" is for aspqn; mspqn takes each'
                " block's correction whole"
            )
        if self.global_solver != "lbfgs" and self.momentum != MOMENTUM:
            raise ValueError(f'momentum is for global_solver = "lbfgs", not "{self.global_solver}"')
        if self.local_solver != "lbfgs" and self.local_momentum < 1:
            raise ValueError(
                f'local_momentum is for local_solver = "lbfgs", not "{self.local_solver}"'
            )
        if self.local_solver == "ssbroyden" and self.local_memory is not None:
            raise ValueError(
                'local_memory is for local_solver = "lbfgs" or "trust-region", not "ssbroyden",'
                " which keeps no pairs"
            )
        return self


@dataclass
class SPQNState:
    """The global method at θ_k, and what the local solvers of this rank's blocks remember.

    Without `keep_local_memory` there are no such memories.
    """

    outer: LBFGSState | SelfScaledState
    local_memory: BlockStates[LBFGSMemory | InverseHessian | TrustRegionMemory]

    @property
    def point(self) -> Point:
        return self.outer.point


@dataclass(frozen=True)
class Costs:
    """Of one iteration, as the papers count them."""

    gradients: float
    updates: float


class SPQN(Solver[SPQNState]):
    """What ASPQN and MSPQN have in common: all but how they go through the blocks.

    Nominal costs of an iteration count gradients of the full L and of blocks alike, as the papers
    do: for the coarse step k_c and one for its search, for the local step k_s one after the other
    (ASPQN, whose blocks work at once) or S k_s (MSPQN), for the synchronisation one a search, and
    one for each global step. Update costs of memories of all kinds are in updates of three secant
    pairs of all n parameters, 6 n numbers (`quasi_newton.update_cost`).
    """

    Options = SPQNOptions

    @classmethod
    def find_excess(cls, options: SPQNOptions, layers: int) -> Excess | None:
        return find_excess(options.blocks, options.overlap, layers)

    def __init__(self, setting: Setting, options: SPQNOptions) -> None:
        super().__init__(setting, options)
        self.work = BlockWork.of(setting.objective, options.blocks, options.overlap)
        self._global = _make_global_method(options, setting.objective)
        self._local = _make_local_solver(options, setting.objective)

    @property
    def led(self) -> list[int]:
        return self.work.groups.led

    @property
    @abstractmethod
    def block_ranks(self) -> Communicator:
        """The ranks that work on this rank's blocks."""

    def find_rows(self, total: int, part: int | None) -> tuple[int, int]:
        if part is None:
            return super().find_rows(total, part)
        ranks = choose_row_ranks(total, self.block_ranks)
        return find_row_ranges(total, ranks.size)[ranks.rank]

    @property
    @abstractmethod
    def costs(self) -> Costs:
        """Of an iteration."""

    @abstractmethod
    def precondition(self, state: SPQNState) -> tuple[Point, BlockStates[Any]]:
        """θ_{k+1/2} = G(θ_k), evaluated, and the local solvers' memories: steps 0 to 2."""

    def step(self, state: SPQNState) -> tuple[SPQNState, Record]:
        half, memories = self.precondition(state)
        outer = self._take_global_steps(state.outer, half)
        return SPQNState(outer, memories), self._record(state, outer)

    def renew(self, state: SPQNState) -> SPQNState:
        with self.setting.timer.phase("global"):
            point = evaluate_point(self.setting.objective, state.point.theta)
            return SPQNState(self._global.move(state.outer, point), state.local_memory)

    def go_back(self, state: SPQNState, theta: Tensor) -> SPQNState:
        return self.init(theta)

    def _start(self, theta: Tensor, solved_here: Sequence[int]) -> SPQNState:
        with self.setting.timer.phase("global"):
            outer = self._global.start(evaluate_point(self.setting.objective, theta))
        return SPQNState(outer, self._keep({s: self._local.make_fresh() for s in solved_here}))

    def _take_coarse_step(self, point: Point) -> Point:
        """Step 0, on all ranks together; the same point where no decrease is found."""
        o, objective, coarse = self.options, self.setting.objective, self.work.decomposition.coarse
        if not o.coarse_steps:
            return point
        with self.setting.timer.phase("global"):
            restricted, start = objective.restrict(coarse, point.theta), point.restrict(coarse)
            solver = LocalLBFGS(o.memory, o.line_search)
            solved, _ = solver.solve(restricted, start, solver.make_fresh(), o.coarse_steps)
            direction = self.work.decomposition.extend(coarse, solved.theta - start.theta)
            return search_along(objective, point, direction, o.line_search)[0]

    def _solve_block(
        self, local: Objective, block: Block, start: Point, kept: BlockStates[Any]
    ) -> tuple[Tensor, Any]:
        """Step 1 for one block: the correction θ_s* - R_s θ (n_s,) and the memory.

        Args:
            local: L as a function of θ_s.
            block: the block s.
            start: R_s θ, with the loss and the block's gradient there.
            kept: the memories of the blocks.
        """
        memory = kept[block.index] if self.options.keep_local_memory else self._local.make_fresh()
        solved, memory = self._local.solve(local, start, memory, self.options.local_steps)
        return solved.theta - start.theta, memory

    def _take_global_steps(self, outer: Any, half: Point) -> Any:
        """Steps 3 to 6."""
        with self.setting.timer.phase("global"):
            return take_steps(
                lambda state: self._global.step(self.setting.objective, state),
                self._global.move(outer, half),
                self.options.global_steps,
            )

    def _keep(self, memories: dict[int, Any]) -> BlockStates[Any]:
        return BlockStates(memories if self.options.keep_local_memory else {})

    def _record(self, old: SPQNState, outer: Any) -> Record:
        costs = self.costs
        return Record(
            loss=outer.point.loss,
            gradient_norm=norm(outer.point.gradient),
            step_length=outer.step_length,
            nominal_gradient_evaluations=costs.gradients,
            update_cost=costs.updates,
            outcome=_describe_outcome(old.outer, outer),
        )

    def _count_costs(self, local_gradients: int, local_updates: float) -> Costs:
        """Of an iteration, given those of steps 1 and 2."""
        o, parts = self.options, self.work.decomposition
        coarse_gradients = o.coarse_steps + 1 if o.coarse_steps else 0
        coarse_updates = count_pairs(o.memory, parts.coarse.size / parts.parameters)
        global_updates = self._global.count_update_cost(parts.parameters)
        return Costs(
            coarse_gradients + local_gradients + o.global_steps,
            o.global_steps * global_updates + o.coarse_steps * coarse_updates + local_updates,
        )

    def _count_block_update_cost(self, block: Block) -> float:
        parameters = self.work.decomposition.parameters
        return self._local.count_update_cost(block.size, parameters) * self.options.local_steps

    def _describe(self, sweep: str) -> list[str]:
        costs, o, parts = self.costs, self.options, self.work.decomposition
        sizes = ", ".join(str(block.size) for block in parts.blocks)
        steps = f"{o.global_steps} steps of " if o.global_steps > 1 else ""
        lines = [f"{o.name}: right-preconditioned {steps}{self._global.label}"]
        if o.coarse_steps:
            lines.append(
                f"coarse: {o.coarse_steps} steps of L-BFGS on the first layer of each block"
                f" (n_c = {parts.coarse.size}), accepted by a search"
            )
        lines.append(
            f"local: {o.local_steps} steps of {self._local.label} on each of {o.blocks} blocks of"
            f" layers, overlap {o.overlap} (n_s = {sizes}),"
            f" memory {'kept' if o.keep_local_memory else 'restarted'}"
        )
        lines.append(f"synchronisation: {sweep}")
        lines.append(
            f"strong Wolfe line searches, c1 {o.line_search.c1:g}, c2 {o.line_search.c2:g}"
        )
        lines.append(
            f"nominal: {costs.gradients:g} gradients and {costs.updates:.3g} updates an iteration"
        )
        return lines


class ASPQN(SPQN):
    """Additive: all blocks at once, one rank or rank group a block, then a synchronisation."""

    names = ("aspqn",)

    @property
    def block_ranks(self) -> Communicator:
        return self.work.objective.communicator

    @property
    def costs(self) -> Costs:
        """Of an iteration, in which the others wait for the largest block's updates."""
        o = self.options
        gradients = o.local_steps + count_gradients(o.synchronisation, o.blocks)
        return self._count_costs(
            gradients, max(map(self._count_block_update_cost, self.work.blocks))
        )

    def init(self, theta: Tensor) -> SPQNState:
        return self._start(theta, self.work.own)

    def precondition(self, state: SPQNState) -> tuple[Point, BlockStates[Any]]:
        o, objective = self.options, self.setting.objective
        point = self._take_coarse_step(state.point)
        corrections, memories = self._solve_blocks(point, state.local_memory)
        with self.setting.timer.phase("global"):
            synchronise = SYNCHRONISATIONS[o.synchronisation]
            half = synchronise(
                objective, self.work.decomposition, point, corrections, o.line_search
            )
        return half, memories

    def _solve_blocks(
        self, point: Point, kept: BlockStates[Any]
    ) -> tuple[list[Tensor], BlockStates[Any]]:
        """Step 1: every block's correction on every rank, and this rank's memories."""
        work, solved, memories = self.work, dict[int, tuple[Tensor, Counts]](), dict[int, Any]()
        with self.setting.timer.phase("local"):
            for s in work.own:
                block, counts = work.blocks[s], work.make_fresh_counts()
                local = work.objective.restrict(block, point.theta, counts)
                correction, memories[s] = self._solve_block(
                    local, block, point.restrict(block), kept
                )
                solved[s] = correction, counts
        received = work.groups.gather_with_work(solved, work.sizes, self.setting.counts)
        return [each.to(point.theta.dtype) for each in received], self._keep(memories)

    def describe(self) -> list[str]:
        sweep = {
            "common": "additive, one step length for all blocks by a search",
            "block-wise": "additive, a search along each block's correction in turn",
            "subspace": "additive, a step length for each block by BFGS in their subspace",
        }[self.options.synchronisation]
        return self._describe(sweep)


class MSPQN(SPQN):
    """Multiplicative: block after block, all ranks on each, which share its samples."""

    names = ("mspqn",)

    @property
    def block_ranks(self) -> Communicator:
        return self.setting.objective.communicator

    @property
    def costs(self) -> Costs:
        """Of an iteration, in which the blocks are solved one after the other."""
        gradients = self.options.blocks * self.options.local_steps + 1
        return self._count_costs(
            gradients, math.fsum(map(self._count_block_update_cost, self.work.blocks))
        )

    def init(self, theta: Tensor) -> SPQNState:
        return self._start(theta, range(len(self.work.blocks)))

    def precondition(self, state: SPQNState) -> tuple[Point, BlockStates[Any]]:
        objective = self.setting.objective
        point = self._take_coarse_step(state.point)
        theta, memories = point.theta.clone(), dict[int, Any]()
        with self.setting.timer.phase("local"):
            for block in self.work.blocks:
                local = objective.restrict(block, theta)
                # The first block starts where all is known, the others where θ has moved.
                start = (
                    evaluate_point(local, block.restrict(theta).clone())
                    if block.index
                    else point.restrict(block)
                )
                correction, memories[block.index] = self._solve_block(
                    local, block, start, state.local_memory
                )
                block.restrict(theta).add_(correction)
        with self.setting.timer.phase("global"):
            return evaluate_point(objective, theta), self._keep(memories)

    def describe(self) -> list[str]:
        sweep = "multiplicative, each block sees its predecessors' results"
        return self._describe(sweep)


def _describe_outcome(
    old: LBFGSState | SelfScaledState, new: LBFGSState | SelfScaledState
) -> Outcome:
    """The outcome of an iteration from one state of the global method to the next."""
    if new.point.loss < old.point.loss:
        return Outcome.ACCEPTED
    return Outcome.NO_BLOCK_DESCENT if old.is_fresh else Outcome.MEMORY_DROPPED


def _make_local_solver(options: SPQNOptions, objective: Objective) -> LocalSolver:
    pairs = options.local_memory or options.memory
    match options.local_solver:
        case "lbfgs":
            return LocalLBFGS(pairs, options.line_search, options.local_momentum)
        case "ssbroyden":
            return LocalSelfScaled(options.local_solver, options.line_search, objective.threads)
        case "trust-region":
            return LocalTrustRegion(pairs, options.trust_region)


def _make_global_method(options: SPQNOptions, objective: Objective) -> GlobalMethod:
    match options.global_solver:
        case "lbfgs":
            return GlobalLBFGS(options.memory, options.momentum, options.line_search)
        case "ssbroyden":
            ranks, threads = objective.communicator, objective.threads
            return GlobalSelfScaled(
                SelfScaledMethod(options.global_solver, options.line_search, ranks, threads)
            )
