"""Synchronisation of an additive Schwarz method: from all blocks' corrections δ_s to one step.

Every block was solved from the same θ, without knowledge of the others, so that their sum may raise
the loss; a search on the whole L holds it. With w the number of owners of each parameter:

    common       θ + α Σ_s E_s δ_s / w             one strong-Wolfe search for α
    block-wise   θ ← θ + α_s E_s δ_s, s = 1 … S    a search a block, each from the last's result
    subspace     θ + Σ_s α_s E_s δ_s / w           α ∈ R^S by BFGS from the common α

Each returns a point with a lower loss, or the one it was given. Sources: common, Kopaničáková,
Kothari, Karniadakis, Krause, arXiv 2306.17648; block-wise and subspace, Lee, Kopaničáková,
Karniadakis, arXiv 2406.10997 and Salvadó-Benasco et al., arXiv 2601.08709.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpctrain.decomposition.blocks import Decomposition
from hpctrain.linalg.vectors import dot, norm
from hpctrain.methods.quasi_newton.secant_pairs import SecantPairs
from hpctrain.methods.search.strong_wolfe import LineSearchOptions, strong_wolfe
from hpctrain.objective import Objective, Point, complete_point

# Steps of BFGS for the α of a subspace synchronisation, after the common search.
SUBSPACE_STEPS = 5

Synchronisation = Callable[
    [Objective, Decomposition, Point, Sequence[Tensor], LineSearchOptions], Point
]


def search_along(
    objective: Objective,
    point: Point,
    direction: Tensor,
    options: LineSearchOptions,
    first_is_likely: bool = True,
) -> tuple[Point, float]:
    """The point that a strong-Wolfe search finds, first trial 1, and the step; else `point`, 0."""
    slope = dot(point.gradient, direction)
    found = strong_wolfe(
        objective, point.theta, direction, point.loss, slope, 1.0, options, first_is_likely
    )
    if found.evaluation is None:
        return point, 0.0
    return complete_point(found.evaluation), found.step


def common(
    objective: Objective,
    decomposition: Decomposition,
    point: Point,
    corrections: Sequence[Tensor],
    options: LineSearchOptions,
) -> Point:
    """One step length for all blocks."""
    d = decomposition.extend_add(corrections)
    return search_along(objective, point, d, options, first_is_likely=False)[0]


def search_block_wise(
    objective: Objective,
    decomposition: Decomposition,
    point: Point,
    corrections: Sequence[Tensor],
    options: LineSearchOptions,
) -> Point:
    """A search along each block's correction in turn; parameters are not divided among owners."""
    for block, correction in zip(decomposition.blocks, corrections, strict=True):
        direction = decomposition.extend(block, correction)
        point, _ = search_along(objective, point, direction, options)
    return point


def subspace(
    objective: Objective,
    decomposition: Decomposition,
    point: Point,
    corrections: Sequence[Tensor],
    options: LineSearchOptions,
) -> Point:
    """A step length for each block, by BFGS in S dimensions.

    The gradient with respect to α is δ_sᵀ R_s (∇L / w). A search along p ∈ R^S is one along
    Σ_s p_s E_s δ_s / w in θ, so that α itself never appears. The common search comes first and
    gives the first secant pair; five steps of L-BFGS that keep all pairs are BFGS.
    """

    def combination(weights: Tensor) -> Tensor:
        weighted = [a * delta for a, delta in zip(weights, corrections, strict=True)]
        return decomposition.extend_add(weighted)

    def slopes(at: Point) -> Tensor:
        g = at.gradient / decomposition.owners.to(at.gradient.device)
        blocks = zip(decomposition.blocks, corrections, strict=True)
        found = [dot(delta, b.restrict(g)) for b, delta in blocks]
        return torch.tensor(found, dtype=g.dtype, device="cpu")

    g, pairs = slopes(point), SecantPairs()
    p = torch.ones_like(g)
    for step in range(1 + SUBSPACE_STEPS):
        new, length = search_along(objective, point, combination(p), options, step > 0)
        g_new = slopes(new)
        if length > 0:
            pairs.store(length * p, g_new - g, 1 + SUBSPACE_STEPS)
        elif step > 0:
            break
        point, g = new, g_new
        p = -pairs.multiply_inverse_hessian(g)
        if not pairs.s:
            p /= max(norm(p), torch.finfo(p.dtype).tiny)
    return point


SYNCHRONISATIONS: dict[str, Synchronisation] = {
    "common": common,
    "block-wise": search_block_wise,
    "subspace": subspace,
}


def count_gradients(synchronisation: str, blocks: int) -> int:
    """Gradients of the full L: one for every search that may be made."""
    return {"common": 1, "block-wise": blocks, "subspace": 1 + SUBSPACE_STEPS}[synchronisation]
