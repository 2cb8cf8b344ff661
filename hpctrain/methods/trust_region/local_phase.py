"""The local phase of APTS: some trust-region steps within a budget, and the exchange of results.

Every subdomain p works on its h_p from θ_k and gives a step s_p with ‖s_p‖ no longer than the
budget, and the decrease h_p(θ_k) - h_p(θ_k + s_p). One that finds no finite trial contributes
nothing, and says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.control import AT_BOUNDARY, TrustRegionOptions
from hpctrain.methods.trust_region.step import (
    ModelOptions,
    attempt_step,
    check_bound,
    curvature,
    learnt,
)
from hpctrain.methods.trust_region.subproblem import length
from hpctrain.objective.evaluation import Counts, Objective, Smooth
from hpctrain.solvers.base import Point

# A local radius may fall to this fraction of the budget.
SMALLEST = 1e-6
# Numbers behind a step in a message: decrease, finite, and the work of three kinds.
EXTRAS = 5


@dataclass(frozen=True)
class LocalResult:
    """s_p, the decrease of h_p, and whether any trial was finite."""

    step: Tensor
    decrease: float
    finite: bool


@dataclass
class LocalMemory:
    """What a subdomain keeps between local phases: the radius of its steps and its pairs."""

    radius: float
    pairs: LSR1


def local_phase(
    h: Smooth,
    start: Point,
    budget: float,
    first_radius: float,
    steps: int,
    memory: LocalMemory,
    options: ModelOptions,
) -> tuple[LocalResult, LocalMemory]:
    """At most `steps` trust-region steps on h_p with ‖s_p‖ ≤ budget, and the memory after them.

    A step's radius is at most what is left of the budget, hence by the triangle inequality the
    sum keeps it. The phase ends early where that is used up, or no decrease is left to find.

    Args:
        h: h_p.
        start: θ_k with h_p and ∇h_p there.
        budget: of ‖s_p‖.
        first_radius: most of the first step, as a fraction of the budget.
        steps: trial steps at most, rejected ones included.
        memory: the radius to begin with, and the secant pairs of h_p.
        options: the model and the constants of the radius control, but for its limits.
    """
    o, kind, learns = _within(budget, options), options.trust_region.norm, options.model == "lsr1"
    s, point, finite = torch.zeros_like(start.theta), start, False
    radius, pairs = min(memory.radius, first_radius * budget), memory.pairs
    for step in range(steps):
        room = budget - length(s, kind)
        if room <= (1 - AT_BOUNDARY) * budget:
            break
        B = curvature(h, point.theta, pairs, o)
        needed = learns or step < steps - 1
        tried = attempt_step(h, point, B, min(radius, room), o, needed)
        finite = finite or math.isfinite(tried.trial.loss)
        if learns:
            pairs = learnt(pairs, tried.step, tried.trial.gradient - point.gradient, o)
        if tried.accepted:
            s = s + tried.step
            gradient = tried.trial.gradient if needed else point.gradient
            point = Point(tried.trial.theta, tried.trial.loss, gradient)
        elif tried.hopeless:
            break
        # What the budget cut short says nothing against a longer step.
        radius = max(radius, tried.radius) if tried.accepted else tried.radius
    if options.debug:
        check_bound(length(s, kind), budget, s.dtype)
    # Without a step there is no decrease either, be the loss NaN where it starts.
    decrease = 0.0 if point is start else start.loss - point.loss
    return LocalResult(s, decrease, finite), LocalMemory(radius, pairs)


def _within(budget: float, options: ModelOptions) -> ModelOptions:
    """The options with the budget for the limits of the radius, and monotone."""
    limits = {"radius": budget, "min_radius": SMALLEST * budget, "max_radius": budget}
    region = TrustRegionOptions(**(options.trust_region.model_dump() | limits))
    return options.model_copy(update={"trust_region": region, "window": 1})


def exchange(
    objective: Objective,
    groups: Sequence[tuple[int, ...]],
    sizes: Sequence[int],
    solved: Mapping[int, tuple[LocalResult, Counts]],
    counts: Counts,
) -> list[LocalResult]:
    """Every subdomain's result on every rank, in their order, in one gather; collective.

    Group leaders send their subdomains' results with the work behind them, which is added to
    `counts` in the same order on all ranks.

    Args:
        objective: L, on all ranks.
        groups: for each subdomain the ranks that work on it.
        sizes: for each subdomain the length of its step.
        solved: what this rank has worked on.
        counts: where work is added.
    """
    communicator, dtype = objective.communicator, objective.dtype
    led = [[p for p in range(len(groups)) if groups[p][0] == r] for r in range(communicator.size)]
    rows = [_packed(*solved[p]) for p in led[communicator.rank]]
    empty = torch.zeros(0, dtype=torch.float64, device=objective.device)
    local = torch.cat(rows) if rows else empty
    sent = [sum(sizes[p] + EXTRAS for p in theirs) for theirs in led]
    order = [p for theirs in led for p in theirs]
    gathered = communicator.allgather_rows(local, sent).split([sizes[p] + EXTRAS for p in order])
    received = dict(zip(order, gathered, strict=True))
    return [_unpacked(received[p], dtype, counts) for p in range(len(groups))]


def _packed(result: LocalResult, work: Counts) -> Tensor:
    extras = [
        result.decrease,
        float(result.finite),
        work.loss_work,
        work.gradient_work,
        work.hvp_work,
    ]
    step = result.step.double()
    return torch.cat([step, step.new_tensor(extras)])


def _unpacked(row: Tensor, dtype: torch.dtype, counts: Counts) -> LocalResult:
    decrease, finite, *work = row[-EXTRAS:].tolist()
    counts.loss_work += work[0]
    counts.gradient_work += work[1]
    counts.hvp_work += work[2]
    return LocalResult(row[:-EXTRAS].to(dtype), decrease, bool(finite))
