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

from hpctrain.methods.groups import Groups
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
from hpctrain.objective import Counts, Point, Smooth

# A local radius may fall to this fraction of the budget.
SMALLEST = 1e-6
# Numbers behind a step in a message: decrease, finite.
EXTRAS = 2


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
            pairs = learnt(pairs, tried.step, tried.trial.evaluate_gradient() - point.gradient, o)
        if tried.accepted:
            s = s + tried.step
            gradient = tried.trial.evaluate_gradient() if needed else point.gradient
            point = Point(tried.trial.theta, tried.trial.loss, gradient)
        elif tried.outcome.is_final:
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
    groups: Groups,
    sizes: Sequence[int],
    solved: Mapping[int, tuple[LocalResult, Counts]],
    counts: Counts,
    dtype: torch.dtype,
) -> list[LocalResult]:
    """Every subdomain's result on every rank, in their order, in one gather; collective.

    Args:
        groups: for each subdomain the ranks that work on it.
        sizes: for each subdomain the length of its step.
        solved: what this rank has worked on, with the work behind it.
        counts: where all work is added.
        dtype: of steps.
    """
    rows = {p: (_packed(result), work) for p, (result, work) in solved.items()}
    received = groups.gather_with_work(rows, [size + EXTRAS for size in sizes], counts)
    return [_unpacked(row, dtype) for row in received]


def _packed(result: LocalResult) -> Tensor:
    step = result.step.double()
    return torch.cat([step, step.new_tensor([result.decrease, float(result.finite)])])


def _unpacked(row: Tensor, dtype: torch.dtype) -> LocalResult:
    decrease, finite = row[-EXTRAS:].tolist()
    return LocalResult(row[:-EXTRAS].to(dtype), decrease, bool(finite))
