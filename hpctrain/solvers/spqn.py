"""Schwarz-preconditioned quasi-Newton: ASPQN (additive) and MSPQN (multiplicative).

Right-preconditioned L-BFGS on ∇L(G(θ)) = 0, where G is one sweep of local minimisations over
blocks of layers. Source: Kopaničáková, Kothari, Karniadakis, Krause, SISC 46(5), 2024
(arXiv 2306.17648), algorithm 4.1. Outer iteration k:

    1. local step         θ_s* ≈ argmin over θ_s of L, by k_s steps of L-BFGS, all else frozen
    2. synchronisation    θ_{k+1/2} = θ_k + α_k d,   d = Σ_s E_s (θ_s* - R_s θ_k)
    3. quasi-Newton step  p = -H ∇L(θ_{k+1/2})
    4. momentum           v ← (1-μ) v + μ p
    5. global update      θ_{k+1} = θ_{k+1/2} + β_k v
    6. secant pair        s = θ_{k+1} - θ_{k+1/2},  y = ∇L(θ_{k+1}) - ∇L(θ_{k+1/2})

ASPQN starts every block from R_s θ_k and finds α_k by a strong-Wolfe search; MSPQN goes through
the blocks from input to output, each sees its predecessors' results, and α_k = 1.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hpctrain.decomposition import Block
from hpctrain.globalization.line_search import LineSearchOptions, strong_wolfe
from hpctrain.objective import Counts, Objective
from hpctrain.options import Options
from hpctrain.quasi_newton.lbfgs import SecantPairs
from hpctrain.solvers.base import Point, Record, Solver, evaluate
from hpctrain.solvers.quasi_newton import LBFGSState, lbfgs_step
from hpctrain.state import BlockStates
from hpctrain.vectors import dot, norm


class SPQNOptions(Options):
    """Settings of ASPQN and MSPQN."""

    name: Literal["aspqn", "mspqn"] = "aspqn"
    blocks: int = Field(8, ge=1, description="S, groups of consecutive layers")
    local_steps: int = Field(50, ge=1, description="k_s, L-BFGS iterations of a local solve")
    memory: int = Field(3, ge=1, description="secant pairs kept, globally and locally")
    keep_local_memory: bool = Field(False, description="keep a block's pairs between local phases")
    momentum: float = Field(0.9, gt=0, le=1, description="weight of the new direction; 1 is none")
    line_search: LineSearchOptions = LineSearchOptions()


@dataclass
class SPQNState:
    """The global L-BFGS at θ_k, and the secant pairs of this rank's blocks if they are kept."""

    outer: LBFGSState
    local_pairs: BlockStates[SecantPairs]

    @property
    def point(self) -> Point:
        return self.outer.point


class SPQN(Solver[SPQNState]):
    """Steps 3 to 6, which ASPQN and MSPQN share; they differ in `_precondition`."""

    def init(self, theta: Tensor) -> SPQNState:
        with self.setting.timer.phase("global"):
            point = evaluate(self.setting.objective, theta)
        return SPQNState(LBFGSState(point), BlockStates())

    def step(self, state: SPQNState) -> tuple[SPQNState, Record]:
        o = self.options
        half, local_pairs = self._precondition(state)
        before = LBFGSState(half, state.outer.pairs, state.outer.velocity)
        with self.setting.timer.phase("global"):
            outer = lbfgs_step(self.setting.objective, before, o.memory, o.momentum, o.line_search)
        record = Record(
            loss=outer.point.loss,
            gradient_norm=norm(outer.point.gradient),
            step_length=outer.step_length,
            nominal_gradient_evaluations=self._nominal_gradients(),
            update_cost=self._update_cost(),
            stalled=not outer.point.loss < state.point.loss and not state.outer.pairs.s,
        )
        return SPQNState(outer, local_pairs), record

    def _precondition(self, state: SPQNState) -> tuple[Point, BlockStates[SecantPairs]]:
        """θ_{k+1/2} = G(θ_k), evaluated, and the blocks' secant pairs."""
        raise NotImplementedError

    def _nominal_gradients(self) -> float:
        raise NotImplementedError

    def _update_cost(self) -> float:
        raise NotImplementedError

    def _solve_block(
        self,
        objective: Objective,
        block: Block,
        theta: Tensor,
        kept: BlockStates[SecantPairs],
        counts: Counts | None = None,
    ) -> tuple[Tensor, SecantPairs]:
        """k_s steps of L-BFGS on θ_s ↦ L; the correction θ_s* - R_s θ (n_s,) and the pairs.

        A local search that fails twice, with and without pairs, ends the local solve early.
        """
        o = self.options
        local = objective.restrict(block, theta, counts)
        start = block.restrict(theta).clone()
        pairs = kept.get(block.index, SecantPairs()) if o.keep_local_memory else SecantPairs()
        state = LBFGSState(evaluate(local, start), pairs)
        for _ in range(o.local_steps):
            failed_before = not state.pairs.s
            state = lbfgs_step(local, state, o.memory, 1.0, o.line_search)
            if state.step_length == 0 and failed_before:
                break
        return state.point.theta - start, state.pairs

    def _keep(self, pairs: dict[int, SecantPairs]) -> BlockStates[SecantPairs]:
        return BlockStates(pairs if self.options.keep_local_memory else {})

    def describe(self) -> list[str]:
        o = self.options
        sizes = ", ".join(str(block.size) for block in self.setting.decomposition.blocks)
        return [
            f"{o.name}: right-preconditioned L-BFGS, {o.memory} pairs, momentum {o.momentum:g}",
            f"local: {o.local_steps} steps of L-BFGS on each of {o.blocks} blocks of layers"
            f" (n_s = {sizes}), memory {'kept' if o.keep_local_memory else 'restarted'}",
            f"strong Wolfe line searches, c1 {o.line_search.c1:g}, c2 {o.line_search.c2:g}",
        ]


class ASPQN(SPQN):
    """Additive: all blocks at once, one rank or rank group a block, α_k by a search on L."""

    def _precondition(self, state: SPQNState) -> tuple[Point, BlockStates[SecantPairs]]:
        setting, point = self.setting, state.point
        solved, pairs, work = [], {}, []
        with setting.timer.phase("local"):
            for index in setting.local.blocks:
                block = setting.decomposition.blocks[index]
                counts = Counts(setting.counts.loss_cost, setting.counts.gradient_cost)
                correction, pairs[index] = self._solve_block(
                    setting.local.objective, block, point.theta, state.local_pairs, counts
                )
                solved.append(correction)
                work.append(counts)
        corrections = self._exchange(solved, work)
        with setting.timer.phase("global"):
            d = setting.decomposition.extend_add(corrections)
            slope = dot(point.gradient, d)
            found = strong_wolfe(
                setting.objective, point.theta, d, point.loss, slope, 1.0,
                self.options.line_search, first_is_likely=False,
            )  # fmt: skip
        if found.evaluation is not None:
            evaluation = found.evaluation
            point = Point(evaluation.theta, evaluation.loss, evaluation.gradient)
        return point, self._keep(pairs)

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
        counts = [sum(blocks[s].size + 2 for s in theirs) for theirs in led]
        parts = [
            torch.cat([c.double(), torch.tensor([w.loss_work, w.gradient_work]).double()])
            for s, c, w in zip(setting.local.blocks, solved, work, strict=True)
            if groups[s][0] == communicator.rank
        ]
        local = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        gathered = communicator.allgather_rows(local, counts)
        order = [s for theirs in led for s in theirs]
        received = dict(
            zip(order, gathered.split([blocks[s].size + 2 for s in order]), strict=True)
        )
        for s in range(len(blocks)):
            setting.counts.loss_work += int(received[s][-2])
            setting.counts.gradient_work += int(received[s][-1])
        dtype = setting.objective.dtype
        return [received[s][:-2].to(dtype) for s in range(len(blocks))]

    def _nominal_gradients(self) -> float:
        return 2 + self.options.local_steps

    def _update_cost(self) -> float:
        """1 + (n_s / n) k_s, with the largest block, which the others wait for."""
        decomposition = self.setting.decomposition
        largest = max(block.size for block in decomposition.blocks)
        return 1 + largest / decomposition.parameters * self.options.local_steps


class MSPQN(SPQN):
    """Multiplicative: block after block, all ranks on each, which share its samples."""

    def _precondition(self, state: SPQNState) -> tuple[Point, BlockStates[SecantPairs]]:
        setting = self.setting
        theta, pairs = state.point.theta.clone(), {}
        with setting.timer.phase("local"):
            for block in setting.decomposition.blocks:
                correction, pairs[block.index] = self._solve_block(
                    setting.objective, block, theta, state.local_pairs
                )
                block.restrict(theta).add_(correction)
        with setting.timer.phase("global"):
            return evaluate(setting.objective, theta), self._keep(pairs)

    def _nominal_gradients(self) -> float:
        return 2 + self.options.blocks * self.options.local_steps

    def _update_cost(self) -> float:
        return 1 + self.options.local_steps
