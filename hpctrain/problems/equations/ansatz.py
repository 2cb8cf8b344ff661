"""Hard constraints: u = G₀ + len·N meets the initial and boundary conditions for any network N.

On jets (order of components in `pde.py`) this is an affine map. With D = len the Leibniz rule gives

    u = G₀ + D N,    u_i = G₀_i + D N_i + D_i N,    u_ii = G₀_ii + D N_ii + D_ii N + 2 D_i N_i.

Source: I. E. Lagaris, A. Likas, D. I. Fotiadis, IEEE Trans. Neural Networks 9 (1998), 987-1000.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import coordinates_of_order
from hpctrain.problems.equations.checks.guard import named_place
from hpctrain.problems.equations.points import grid_points
from hpctrain.problems.equations.system import PDE, NotSmoothError, ProblemError
from hpctrain.user_code.faults import explain

# Points a coordinate to find the distance's maximum on: odd, so that midpoints are among them.
_MAXIMUM_GRID = 41


class Ansatz:
    """The map from a network's jets to those of G₀ + len·N at fixed points.

    Args:
        pde: gives G₀ (`lifting`), len (`distance`) and the orders of the jets.
        points: coordinates (d, N).
        scale_distance: divide len by its maximum over the domain, whatever the points are; the
            maximum is taken on a grid of 41 points a coordinate.

    Raises:
        ProblemError: the lifting or the distance has no derivative, or no positive maximum.
        NotSmoothError: the lifting, the distance or a derivative is not finite at a point.
    """

    def __init__(self, pde: PDE, points: Tensor, scale_distance: bool = False) -> None:
        points = points.to(torch.float64)
        self._lifting = jets(pde.lifting, points, pde.orders)
        distance = jets(pde.distance, points, pde.orders)
        if scale_distance:
            distance /= _maximum_distance(pde)
        self._set_leibniz_factors(distance, pde.orders)

    def _set_leibniz_factors(self, D: Tensor, orders: tuple[int, ...]) -> None:
        """D beside the same component; D_i, D_ii beside N; 2 D_i beside N_i for u_ii; else zero."""
        first = coordinates_of_order(orders, 1)
        first_row = [1 + first.index(i) for i in coordinates_of_order(orders, 2)]
        second_start = 1 + len(first)
        self._distance = D[0].clone()
        self._beside_value = D.clone()
        self._beside_value[0] = 0
        self._beside_first = torch.zeros_like(D)
        self._beside_first[second_start:] = 2 * D[first_row]
        self._first_row = torch.tensor([0] * second_start + first_row, device=D.device)

    def to(self, dtype: torch.dtype, device: torch.device) -> "Ansatz":
        """The same map in another precision and place; this object is changed and returned."""
        for name in ("_lifting", "_distance", "_beside_value", "_beside_first"):
            setattr(self, name, getattr(self, name).to(device, dtype))
        self._first_row = self._first_row.to(device)
        return self

    def apply(self, network: Tensor) -> Tensor:
        """The jets (C, N) of u from the jets (C, N) of the network; differentiable."""
        u = torch.addcmul(self._lifting, self._distance, network)
        u = torch.addcmul(u, self._beside_value, network[0])
        return torch.addcmul(u, self._beside_first, network.index_select(0, self._first_row))

    def apply_each(self, network: Sequence[Any]) -> list[Any]:
        """The same on the components one by one, with nothing but + and *, so that it traces."""
        value, count = network[0], len(self._beside_value)
        u = [self._lifting[c] + self._distance * network[c] for c in range(count)]
        for c in range(1, count):
            u[c] = u[c] + self._beside_value[c] * value
            if int(self._first_row[c]) > 0:
                u[c] = u[c] + self._beside_first[c] * network[int(self._first_row[c])]
        return u

    def apply_to_values(self, network: Tensor) -> Tensor:
        """The values (N,) of u from the values (N,) of the network, where no derivatives matter."""
        return torch.addcmul(self._lifting[0], self._distance, network)


def jets(function: Callable[[Tensor], Tensor], points: Tensor, orders: tuple[int, ...]) -> Tensor:
    """The jets (C, N) of a function of the coordinates at points (d, N), by nested autograd.

    The function acts point by point. It may be constant or linear in a coordinate: what does not
    depend on the points has derivative zero.

    Raises:
        ProblemError: torch has no derivative of the function.
        NotSmoothError: the function or a derivative is not finite at a point.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        value = function(points)
        try:
            gradient = spatial_gradient(value, points)
            first = [gradient[i] for i in coordinates_of_order(orders, 1)]
            second = [
                spatial_gradient(gradient[i], points)[i] for i in coordinates_of_order(orders, 2)
            ]
        except Exception as error:
            raise no_derivative(function, error) from error
    components = torch.stack([value, *first, *second]).detach()
    _check_finite(function, components, points)
    return components


def spatial_gradient(values: Tensor, points: Tensor) -> Tensor:
    """The derivatives (d, N) of values (N,), each a function of its own point only."""
    if not values.requires_grad:
        return torch.zeros_like(points)
    (gradient,) = torch.autograd.grad(
        values.sum(), points, create_graph=True, materialize_grads=True
    )
    return gradient


def no_derivative(function: Callable[..., Any], error: Exception) -> ProblemError:
    """Of a function that torch cannot differentiate, for the reason that autograd gave."""
    return ProblemError(f"{named_place(function)} has no derivative in torch: {explain(error)}")


def _maximum_distance(pde: PDE) -> float:
    grid = grid_points(pde.domain, (_MAXIMUM_GRID,) * len(pde.domain))
    maximum = float(pde.distance(grid).max())
    if not 0 < maximum < math.inf:
        raise ProblemError(
            f"{pde.name}: the largest distance in the domain is {maximum}: "
            "it must be positive and finite"
        )
    return maximum


def _check_finite(function: Callable[..., Tensor], components: Tensor, points: Tensor) -> None:
    bad = ~components.isfinite().all(dim=0)
    if bool(bad.any()):
        raise NotSmoothError(
            f"{named_place(function)} or a derivative of it is not finite at the point "
            f"{points[:, bad][:, 0].tolist()}: it must be smooth at every point used"
        )
