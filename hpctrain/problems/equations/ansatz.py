"""Fields of the form u = G + D·N: the jets of a product, and of functions of the points.

With multi-indices α and β ≤ α, Leibniz's rule gives

    u_α = G_α + Σ_β (α over β) D_β N_{α−β},    Δu = ΔG + D ΔN + 2 ∇D·∇N + N ΔD.

Source: I. E. Lagaris, A. Likas, D. I. Fotiadis, IEEE Trans. Neural Networks 9 (1998), 987-1000.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from hpctrain.problems.equations.fields import LAPLACIAN, Component, Index
from hpctrain.problems.equations.terms import ProblemError
from hpctrain.user_code.faults import explain

Function = Callable[[Tensor], Tensor]

# The coordinates (N,) that points (d, N) were made of.
_COORDINATES = WeakIdKeyDictionary()


class NotSmoothError(ProblemError):
    """A function is not finite at a point, perhaps one that a single rank holds."""


@lru_cache(maxsize=4096)
def splits(index: Index) -> tuple[tuple[int, Index, Index], ...]:
    """(α over β), β and α − β for all 0 ≤ β ≤ α, β in the order 0, α, and then the others."""
    counts = Counter(index)
    found = []
    for taken in product(*(range(count + 1) for count in counts.values())):
        beta = tuple(i for i, k in zip(counts, taken, strict=True) for _ in range(k))
        rest = tuple(
            i for (i, count), k in zip(counts.items(), taken, strict=True) for _ in range(count - k)
        )
        ways = math.prod(math.comb(c, k) for c, k in zip(counts.values(), taken, strict=True))
        found.append((ways, beta, rest))
    return tuple(sorted(found, key=lambda s: (len(s[1]) > 0, s[1] != index, len(s[1]), s[1])))


class Form:
    """G and D of one field at fixed points, with the derivatives that are needed.

    Args:
        lifting: G_α (N,) by component.
        distance: D_α (N,).
        space: the coordinates of the Laplacian.
    """

    def __init__(
        self,
        lifting: Mapping[Component, Tensor],
        distance: Mapping[Component, Tensor],
        space: tuple[int, ...] = (),
    ) -> None:
        self._lifting, self._distance, self._space = lifting, distance, space

    def component(self, wanted: Component, network: Callable[[Component], Any]) -> Any:
        """u_α, of the components of N: numbers (N,), or symbols."""
        G, D = self._lifting, self._distance
        if wanted == LAPLACIAN:
            u = G[LAPLACIAN] + D[()] * network(LAPLACIAN) + D[LAPLACIAN] * network(())
            for i in self._space:
                u = u + (2 * D[(i,)]) * network((i,))
            return u
        assert not isinstance(wanted, str)
        u = G[wanted]
        for ways, beta, rest in splits(wanted):
            factor = D[beta] if ways == 1 else ways * D[beta]
            u = u + factor * network(rest)
        return u


def join_coordinates(coordinates: Sequence[Tensor]) -> Tensor:
    """Points (d, N) of coordinates (N,), which `take_coordinates` gives back."""
    points = torch.stack(list(coordinates))
    _COORDINATES[points] = tuple(coordinates)
    return points


def take_coordinates(points: Tensor) -> tuple[Tensor, ...]:
    """The coordinates (N,) that points (d, N) were made of, or their rows.

    A row depends on all points for autograd: of a function of some rows it has derivatives along
    the others too, zeros that are differentiated again with all that they are made of.
    """
    return _COORDINATES.get(points) or points.unbind()


def evaluate_jets(
    function: Function,
    points: Tensor,
    components: Iterable[Component],
    space: tuple[int, ...],
    place: str,
) -> dict[Component, Tensor]:
    """The derivatives (N,) of a function of the points (d, N), by nested autograd.

    The function acts point by point. It may be constant or linear in a coordinate: what does not
    depend on the points has derivative zero.

    Args:
        components: indices, closed downwards, and perhaps `LAPLACIAN` over `space`.
        place: what messages call the function.

    Raises:
        ProblemError: torch has no derivative of the function.
        NotSmoothError: the function or a derivative is not finite at a point.
    """
    wanted = sorted((c for c in components if not isinstance(c, str)), key=len)
    with torch.enable_grad():
        coordinates = [row.clone().requires_grad_() for row in points.detach()]
        value = function(join_coordinates(coordinates))
        found: dict[Component, Tensor] = {(): value}
        gradients: dict[Index, Sequence[Tensor]] = {}
        try:
            for index in wanted[1:]:
                below, along = index[:-1], index[-1]
                if below not in gradients:
                    gradients[below] = compute_gradient(found[below], coordinates)
                found[index] = gradients[below][along]
            if LAPLACIAN in components:
                found[LAPLACIAN] = _laplacian(found, coordinates, space)
        except Exception as error:
            raise make_derivative_error(place, error) from error
    jets = {component: each.detach() for component, each in found.items()}
    _check_finite(place, jets, points)
    return jets


def _laplacian(
    found: Mapping[Component, Tensor], coordinates: Sequence[Tensor], space: tuple[int, ...]
) -> Tensor:
    total = torch.zeros_like(coordinates[0])
    for i in space:
        total = total + compute_gradient(found[(i,)], coordinates)[i]
    return total


def compute_gradient(values: Tensor, coordinates: Sequence[Tensor]) -> Sequence[Tensor]:
    """The derivatives (N,) of values (N,), each a function of its own point only."""
    if not values.requires_grad:
        return [torch.zeros_like(row) for row in coordinates]
    return torch.autograd.grad(values.sum(), coordinates, create_graph=True, materialize_grads=True)


def make_derivative_error(place: str, error: Exception) -> ProblemError:
    """Of a function that torch cannot differentiate, for the reason that autograd gave."""
    return ProblemError(f"{place} has no derivative in torch: {explain(error)}")


def _check_finite(place: str, jets: Mapping[Component, Tensor], points: Tensor) -> None:
    bad = ~torch.stack(list(jets.values())).isfinite().all(dim=0)
    if bool(bad.any()):
        raise NotSmoothError(
            f"{place} or a derivative of it is not finite at the point"
            f" {points[:, bad][:, 0].tolist()}: it must be smooth at every point used"
        )
