"""A network's inputs scaled from the equation's domain to [-1, 1], and its jets brought back.

    ξ_i = s_i (x_i - m_i),   s_i = 2 / (b_i - a_i),   m_i = (a_i + b_i) / 2,
    N_i = s_i ∂N/∂ξ_i,   N_ii = s_i² ∂²N/∂ξ_i².

An equation in seconds and micrometres then trains as the same one on a square.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import coordinates_of_order
from hpctrain.problems.equations.points import Domain
from hpctrain.problems.equations.system import PDE

# Sizes of a coordinate between which networks are trained without scaling.
USUAL_SIZES = (1e-3, 1e3)


class InputScaling:
    """The map of coordinates into a network, and that of its jets (order of `pde.py`) out of it.

    Args:
        domain: a pair (a, b) for each coordinate; None leaves coordinates and jets as they are.
        orders: the highest derivative along each coordinate.
    """

    def __init__(self, domain: Domain | None, orders: tuple[int, ...]) -> None:
        self._middles = [a + (b - a) / 2 for a, b in domain] if domain else None
        self._slopes = [2 / (b - a) for a, b in domain] if domain else [1.0] * len(orders)
        slopes = self._slopes
        first = [slopes[i] for i in coordinates_of_order(orders, 1)]
        second = [slopes[i] * slopes[i] for i in coordinates_of_order(orders, 2)]
        # By component: ∂/∂x in units of ∂/∂ξ.
        self._factors = [1.0, *first, *second]

    def inputs(self, points: Tensor) -> Tensor:
        """ξ (d, N) of points (d, N)."""
        if self._middles is None:
            return points
        rows = zip(points, self._slopes, self._middles, strict=True)
        return torch.stack([slope * (x - middle) for x, slope, middle in rows])

    def jet(self, network: Any) -> Any:
        """The jet along x of one along ξ: rows (C, N), or a sequence of components, that traces."""
        if all(factor == 1 for factor in self._factors):
            return network
        if isinstance(network, Tensor):
            return network * network.new_tensor(self._factors)[:, None]
        return [u if f == 1 else f * u for u, f in zip(network, self._factors, strict=True)]


def caution_of_sizes(pde: PDE, off: Sequence[str]) -> Iterator[str]:
    """A warning where a coordinate's extent or magnitude suits no raw inputs.

    Args:
        off: settings that scale, and are false.
    """
    least, greatest = USUAL_SIZES
    for name, (a, b) in zip(pde.coordinates, pde.domain, strict=True):
        if off and not all(least <= size <= greatest for size in (b - a, max(abs(a), abs(b)))):
            yield (
                f"{' and '.join(off)} = false, and {name} is in [{a:g}, {b:g}]: training suffers"
                f" where the extent or magnitude of one is not within {least:g} to {greatest:g}"
            )
            return
