"""Step 1 of APTS: the local phases of all subdomains, and the exchange of their steps.

Subdomain p works on its h_p from θ_k and gives a step s_p with ‖s_p‖ ≤ β, and the decrease
h_p(θ_k) - h_p(θ_k + s_p). A subdomain that finds no finite trial contributes nothing, and says so.
The subdomains may be shares of the samples or blocks of the parameters (`Subdomains`).

Sources: Groß and Krause, ICS preprint 2009; Cruz, Kothari, Kopaničáková, Krause, arXiv 2502.05133.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hpctrain.methods.groups import Groups
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.local_phase import Budget, run_local_phase
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.objective import Counts, Objective, Point, Smooth
from hpctrain.store.state import BlockStates

# A subdomain's radius may fall to this fraction of its budget.
SMALLEST = 1e-6
# Numbers behind a step in a message: decrease, finite.
EXTRAS = 2


@dataclass(frozen=True)
class LocalProblem:
    """h_p, the point θ_k in the variables of subdomain p, and where the work on it is counted."""

    objective: Smooth
    start: Point
    counts: Counts


class Subdomains(Protocol):
    """The subdomains p = 1 … N of a variant of APTS.

    Attributes:
        own: the subdomains that this rank works on, in order.
        groups: for each subdomain the ranks that work on it.
        sizes: for each subdomain its number of variables n_p.
        local_gradients: of a step of all subdomains at once, over the samples of the iteration.
    """

    @property
    def own(self) -> Sequence[int]: ...
    @property
    def groups(self) -> Groups: ...
    @property
    def sizes(self) -> Sequence[int]: ...
    @property
    def local_gradients(self) -> float: ...

    def pose_problem(
        self, p: int, L: Objective, chosen: Tensor | None, point: Point
    ) -> LocalProblem | None:
        """h_p at θ_k, with ∇h_p(θ_k) = ∇L(θ_k) in the variables of p; None without a sample.

        Args:
            p: one of the own subdomains.
            L: over the samples of the iteration.
            chosen: their numbers, ascending; None for all.
            point: θ_k (n,) with L(θ_k) and ∇L(θ_k).
        """

    def limit_step(self, radius: float) -> float:
        """The budget β of each ‖s_p‖ that keeps ‖Σ_p s_p‖ ≤ Δ."""

    def add(self, steps: Sequence[Tensor]) -> Tensor:
        """Σ_p s_p (n,), added in the order of the subdomains."""

    def describe(self) -> str:
        """The subdomains in a line."""


@dataclass(frozen=True)
class LocalResult:
    """s_p (n_p,), the decrease of h_p, and whether any trial was finite."""

    step: Tensor
    decrease: float
    finite: bool


@dataclass
class LocalMemory:
    """What a subdomain keeps between local phases: the radius of its steps and its pairs."""

    radius: float
    pairs: LSR1


@dataclass(frozen=True)
class LocalPhases:
    """Step 1 of APTS.

    Attributes:
        rule: of the steps, but for the limits of Δ, which are those of the budget.
        steps: trial steps of a phase at most.
        first_radius: most of the first step, as a part of the budget.
    """

    rule: TrialRule
    steps: int
    first_radius: float

    def init_memory(self, subdomains: Subdomains, radius: float) -> BlockStates[LocalMemory]:
        """The memories of this rank's subdomains before the first iteration."""
        budget = subdomains.limit_step(radius)
        return BlockStates({p: LocalMemory(budget, LSR1()) for p in subdomains.own})

    def solve(
        self,
        subdomains: Subdomains,
        L: Objective,
        chosen: Tensor | None,
        point: Point,
        radius: float,
        memories: BlockStates[LocalMemory],
    ) -> tuple[dict[int, tuple[LocalResult, Counts]], BlockStates[LocalMemory]]:
        """The results of this rank's subdomains, with the work behind them, and their memories.

        Args:
            L, chosen, point: as in `Subdomains.pose_problem`.
            radius: Δ.
        """
        solved, after = {}, BlockStates(memories)
        budget = subdomains.limit_step(radius)
        for p in subdomains.own:
            local = subdomains.pose_problem(p, L, chosen, point)
            if local is None:
                nothing = LocalResult(point.theta.new_zeros(subdomains.sizes[p]), 0.0, False)
                solved[p] = nothing, Counts(1, 1)
            else:
                result, after[p] = self.solve_one(local, budget, memories[p])
                solved[p] = result, local.counts
        return solved, after

    def solve_one(
        self, local: LocalProblem, budget: float, memory: LocalMemory
    ) -> tuple[LocalResult, LocalMemory]:
        """s_p with ‖s_p‖ ≤ budget by a local phase, and the memory after it."""
        rule, start = self.rule.limit_radius(budget, SMALLEST), local.start
        end = run_local_phase(
            local.objective,
            start,
            radius=min(memory.radius, self.first_radius * budget),
            pairs=memory.pairs,
            steps=self.steps,
            limit=Budget(budget, rule.norm),
            rule=rule,
            keeps_gradient=False,
        )
        rule.check_bound(end.step, budget)
        # Without a step there is no decrease either, be the loss NaN where it starts.
        decrease = 0.0 if end.point is start else start.loss - end.point.loss
        result = LocalResult(end.step, decrease, end.finite > 0 or end.trials == 0)
        return result, LocalMemory(end.radius, end.pairs)

    def exchange(
        self,
        subdomains: Subdomains,
        solved: Mapping[int, tuple[LocalResult, Counts]],
        counts: Counts,
        point: Point,
    ) -> list[LocalResult]:
        """The results of all subdomains on every rank, in order, in one gather; collective.

        Args:
            solved: what this rank has worked on, with the work behind it.
            counts: to which the work of all is added.
            point: θ_k, whose precision the steps have.
        """
        rows = {p: (_pack(result), work) for p, (result, work) in solved.items()}
        sizes = [size + EXTRAS for size in subdomains.sizes]
        received = subdomains.groups.gather_with_work(rows, sizes, counts)
        return [_unpack(row, point.theta.dtype) for row in received]


def _pack(result: LocalResult) -> Tensor:
    step = result.step.double()
    return torch.cat([step, step.new_tensor([result.decrease, float(result.finite)])])


def _unpack(row: Tensor, dtype: torch.dtype) -> LocalResult:
    decrease, finite = row[-EXTRAS:].tolist()
    return LocalResult(row[:-EXTRAS].to(dtype), decrease, bool(finite))
