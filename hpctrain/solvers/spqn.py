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

ASPQN starts every block from R_s θ_k and synchronises as `schwarz_sync` says; w is the number of
blocks that own a parameter, 1 without overlap. MSPQN goes through the blocks from input to output,
each sees its predecessors' results, and α_k = 1; where blocks overlap the later one goes on from
the earlier one's result, so that nothing is divided by w. Steps 3 to 6 may be repeated.

Sources: Kopaničáková, Kothari, Karniadakis, Krause, SISC 46(5), 2024 (arXiv 2306.17648), algorithm
4.1; overlap, coarse step and synchronisation: Lee, Kopaničáková, Karniadakis, arXiv 2406.10997,
and Salvadó-Benasco et al., arXiv 2601.08709.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hpctrain.decomposition.blocks import Block
from hpctrain.linalg.vectors import norm
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.schwarz.block_solvers import (
    BlockHessian,
    LocalLBFGS,
    LocalSelfScaled,
    LocalSolver,
    LocalTrustRegion,
    TrustRegionMemory,
    take_steps,
)
from hpctrain.methods.schwarz.global_steps import GlobalLBFGS, GlobalMethod, GlobalSelfScaled
from hpctrain.methods.schwarz.synchronisation import (
    SYNCHRONISATIONS,
    nominal_gradients,
    search_along,
)
from hpctrain.methods.search.strong_wolfe import LineSearchOptions
from hpctrain.methods.trust_region.control import TrustRegionOptions
from hpctrain.objective.evaluation import Counts, Objective
from hpctrain.options import Options
from hpctrain.solvers.base import Point, Record, Setting, Solver, evaluate
from hpctrain.solvers.quasi_newton import LBFGSState, SelfScaledMethod, SelfScaledState
from hpctrain.solvers.trust_region import TrustRegionSolverOptions
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
    momentum: float = Field(
        MOMENTUM, gt=0, le=1, description="of the global L-BFGS, weight of the new direction"
    )
    line_search: LineSearchOptions = LineSearchOptions()
    trust_region: TrustRegionOptions = TrustRegionOptions()

    @model_validator(mode="after")
    def _settings_agree(self) -> "SPQNOptions":
        if self.name == "mspqn" and self.synchronisation != "common":
            raise ValueError(
                f'synchronisation = "{self.synchronisation}" is for aspqn; mspqn takes each'
                " block's correction whole"
            )
        if self.global_solver != "lbfgs" and self.momentum != MOMENTUM:
            raise ValueError(f'momentum is for global_solver = "lbfgs", not "{self.global_solver}"')
        return self


@dataclass
class SPQNState:
    """The global method at θ_k, and what the local solvers of this rank's blocks remember.

    Without `keep_local_memory` there are no such memories.
    """

    outer: LBFGSState | SelfScaledState
    local_memory: BlockStates[SecantPairs | BlockHessian | TrustRegionMemory]

    @property
    def point(self) -> Point:
        return self.outer.point


class SPQN(Solver[SPQNState]):
    """All but the sweep over the blocks, which ASPQN and MSPQN do each in their way.

    Nominal costs of an iteration count gradients of the full L and of blocks alike, as the papers
    do: for the coarse step k_c and one for its search, for the local step k_s one after the other
    (ASPQN, whose blocks work at once) or S k_s (MSPQN), for the synchronisation one a search, and
    one for each global step.
    """

    def __init__(self, setting: Setting, options: SPQNOptions) -> None:
        super().__init__(setting, options)
        self._decomposition = setting.decomposition
        self._global = _global_method(options, setting)
        self._local = _local_solver(options, setting)

    def init(self, theta: Tensor) -> SPQNState:
        with self.setting.timer.phase("global"):
            outer = self._global.start(evaluate(self.setting.objective, theta))
        return SPQNState(outer, self._kept({s: self._local.fresh() for s in self._solved_here()}))

    def step(self, state: SPQNState) -> tuple[SPQNState, Record]:
        was_fresh = state.outer.is_fresh
        half, local_memory = self._precondition(state)
        outer = self._global_steps(state.outer, half)
        record = Record(
            loss=outer.point.loss,
            gradient_norm=norm(outer.point.gradient),
            step_length=outer.step_length,
            nominal_gradient_evaluations=self._nominal_gradients(),
            update_cost=self._update_cost(),
            stalled=not outer.point.loss < state.point.loss and was_fresh,
        )
        return SPQNState(outer, local_memory), record

    def _precondition(self, state: SPQNState) -> tuple[Point, BlockStates[Any]]:
        """θ_{k+1/2} = G(θ_k), evaluated, and the local solvers' memories: steps 0 to 2."""
        point = self._coarse_step(state.point) if self.options.coarse_steps else state.point
        half, memories = self._sweep(point, state.local_memory)
        return half, self._kept(memories)

    def _global_steps(self, outer: Any, half: Point) -> Any:
        """Steps 3 to 6."""
        with self.setting.timer.phase("global"):
            return take_steps(
                lambda state: self._global.step(self.setting.objective, state),
                self._global.moved(outer, half),
                self.options.global_steps,
            )

    def _coarse_step(self, point: Point) -> Point:
        """Step 0, on all ranks together; the same point where no decrease is found."""
        o, objective, coarse = self.options, self.setting.objective, self._decomposition.coarse
        with self.setting.timer.phase("global"):
            restricted = objective.restrict(coarse, point.theta)
            start = coarse.restrict(point.theta)
            solver = LocalLBFGS(o.memory, o.line_search)
            at_start = evaluate(restricted, start)
            solved, _ = solver.solve(restricted, at_start, solver.fresh(), o.coarse_steps)
            direction = self._decomposition.extend(coarse, solved.theta - start)
            return search_along(objective, point, direction, o.line_search)[0]

    def _sweep(self, point: Point, kept: BlockStates[Any]) -> tuple[Point, dict[int, Any]]:
        """Steps 1 and 2: the point after them and the blocks' memories."""
        raise NotImplementedError

    def _solved_here(self) -> list[int]:
        """The blocks that this rank works on."""
        raise NotImplementedError

    def _local_gradients(self) -> int:
        """Nominal gradients of steps 1 and 2."""
        raise NotImplementedError

    def _local_updates(self) -> float:
        """Update cost of step 1."""
        raise NotImplementedError

    def _sweep_described(self) -> str:
        raise NotImplementedError

    def _solve_block(
        self,
        objective: Objective,
        block: Block,
        theta: Tensor,
        kept: BlockStates[Any],
        counts: Counts | None = None,
    ) -> tuple[Tensor, Any]:
        """Step 1 for one block: the correction θ_s* - R_s θ (n_s,) and the memory."""
        local = objective.restrict(block, theta, counts)
        start = block.restrict(theta).clone()
        memory = kept[block.index] if self.options.keep_local_memory else self._local.fresh()
        at_start = evaluate(local, start)
        solved, memory = self._local.solve(local, at_start, memory, self.options.local_steps)
        return solved.theta - start, memory

    def _kept(self, memories: dict[int, Any]) -> BlockStates[Any]:
        return BlockStates(memories if self.options.keep_local_memory else {})

    def _nominal_gradients(self) -> float:
        o = self.options
        coarse = o.coarse_steps + 1 if o.coarse_steps else 0
        return coarse + self._local_gradients() + o.global_steps

    def _update_cost(self) -> float:
        """In updates of a memory of the full θ, of its own kind each: n or n² numbers."""
        o = self.options
        coarse = self._decomposition.coarse.size / self._decomposition.parameters * o.coarse_steps
        return o.global_steps + coarse + self._local_updates()

    def _block_update_cost(self, block: Block) -> float:
        fraction = block.size / self._decomposition.parameters
        return self._local.update_cost(fraction) * self.options.local_steps

    def describe(self) -> list[str]:
        o = self.options
        sizes = ", ".join(str(block.size) for block in self._decomposition.blocks)
        steps = f"{o.global_steps} steps of " if o.global_steps > 1 else ""
        lines = [f"{o.name}: right-preconditioned {steps}{self._global.label}"]
        if o.coarse_steps:
            lines.append(
                f"coarse: {o.coarse_steps} steps of L-BFGS on the first layer of each block"
                f" (n_c = {self._decomposition.coarse.size}), accepted by a search"
            )
        lines.append(
            f"local: {o.local_steps} steps of {self._local.label} on each of {o.blocks} blocks of"
            f" layers, overlap {o.overlap} (n_s = {sizes}),"
            f" memory {'kept' if o.keep_local_memory else 'restarted'}"
        )
        lines.append(f"synchronisation: {self._sweep_described()}")
        lines.append(
            f"strong Wolfe line searches, c1 {o.line_search.c1:g}, c2 {o.line_search.c2:g}"
        )
        lines.append(
            f"nominal: {self._nominal_gradients():g} gradients and"
            f" {self._update_cost():.3g} updates an iteration"
        )
        return lines


def _local_solver(options: SPQNOptions, setting: Setting) -> LocalSolver:
    match options.local_solver:
        case "lbfgs":
            return LocalLBFGS(options.memory, options.line_search)
        case "ssbroyden":
            return LocalSelfScaled(options.local_solver, options.line_search, setting.threads)
        case "trust-region":
            region = TrustRegionSolverOptions(
                memory=options.memory, trust_region=options.trust_region
            )
            return LocalTrustRegion(region)


def _global_method(options: SPQNOptions, setting: Setting) -> GlobalMethod:
    match options.global_solver:
        case "lbfgs":
            return GlobalLBFGS(options.memory, options.momentum, options.line_search)
        case "ssbroyden":
            ranks = setting.objective.communicator
            return GlobalSelfScaled(
                SelfScaledMethod(options.global_solver, options.line_search, ranks, setting.threads)
            )


class ASPQN(SPQN):
    """Additive: all blocks at once, one rank or rank group a block, then a synchronisation."""

    def _sweep(self, point: Point, kept: BlockStates[Any]) -> tuple[Point, dict[int, Any]]:
        setting = self.setting
        solved, memories, work = [], {}, []
        with setting.timer.phase("local"):
            for index in setting.local.blocks:
                block = self._decomposition.blocks[index]
                counts = Counts(setting.counts.loss_cost, setting.counts.gradient_cost)
                correction, memories[index] = self._solve_block(
                    setting.local.objective, block, point.theta, kept, counts
                )
                solved.append(correction)
                work.append(counts)
        corrections = self._exchange(solved, work)
        synchronise = SYNCHRONISATIONS[self.options.synchronisation]
        with setting.timer.phase("global"):
            half = synchronise(
                setting.objective, self._decomposition, point, corrections, self.options.line_search
            )
        return half, memories

    def _exchange(self, solved: list[Tensor], work: list[Counts]) -> list[Tensor]:
        """Every block's correction on every rank, and every block's work into the counts.

        Group leaders send their blocks' corrections with the work behind them, in one gather;
        numbers of multiply-adds are exact in float64 up to 2⁵³.
        """
        setting = self.setting
        communicator, blocks = setting.objective.communicator, setting.decomposition.blocks
        groups = setting.local.groups
        led = [
            [s for s in range(len(blocks)) if groups[s][0] == r] for r in range(communicator.size)
        ]
        counts = [sum(blocks[s].size + 3 for s in theirs) for theirs in led]
        parts = [
            _packed(c, w)
            for s, c, w in zip(setting.local.blocks, solved, work, strict=True)
            if groups[s][0] == communicator.rank
        ]
        empty = torch.zeros(0, dtype=torch.float64, device=setting.objective.device)
        local = torch.cat(parts) if parts else empty
        gathered = communicator.allgather_rows(local, counts)
        order = [s for theirs in led for s in theirs]
        received = dict(
            zip(order, gathered.split([blocks[s].size + 3 for s in order]), strict=True)
        )
        for s in range(len(blocks)):
            setting.counts.loss_work += int(received[s][-3])
            setting.counts.gradient_work += int(received[s][-2])
            setting.counts.hvp_work += int(received[s][-1])
        dtype = setting.objective.dtype
        return [received[s][:-3].to(dtype) for s in range(len(blocks))]

    def _solved_here(self) -> list[int]:
        return list(self.setting.local.blocks)

    def _local_gradients(self) -> int:
        o = self.options
        return o.local_steps + nominal_gradients(o.synchronisation, o.blocks)

    def _local_updates(self) -> float:
        """That of the largest block, which the others wait for."""
        return max(map(self._block_update_cost, self._decomposition.blocks))

    def _sweep_described(self) -> str:
        return {
            "common": "additive, one step length for all blocks by a search",
            "block-wise": "additive, a search along each block's correction in turn",
            "subspace": "additive, a step length for each block by BFGS in their subspace",
        }[self.options.synchronisation]


class MSPQN(SPQN):
    """Multiplicative: block after block, all ranks on each, which share its samples."""

    def _sweep(self, point: Point, kept: BlockStates[Any]) -> tuple[Point, dict[int, Any]]:
        setting = self.setting
        theta, memories = point.theta.clone(), {}
        with setting.timer.phase("local"):
            for block in self._decomposition.blocks:
                correction, memories[block.index] = self._solve_block(
                    setting.objective, block, theta, kept
                )
                block.restrict(theta).add_(correction)
        with setting.timer.phase("global"):
            return evaluate(setting.objective, theta), memories

    def _solved_here(self) -> list[int]:
        return list(range(len(self._decomposition.blocks)))

    def _local_gradients(self) -> int:
        return self.options.blocks * self.options.local_steps + 1

    def _local_updates(self) -> float:
        return math.fsum(map(self._block_update_cost, self._decomposition.blocks))

    def _sweep_described(self) -> str:
        return "multiplicative, each block sees its predecessors' results"


def _packed(correction: Tensor, work: Counts) -> Tensor:
    """A correction and the work behind it, in float64."""
    row = correction.double()
    return torch.cat([row, row.new_tensor([work.loss_work, work.gradient_work, work.hvp_work])])
