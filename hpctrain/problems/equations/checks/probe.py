"""Tries an equation's functions on a few points before a run, for faults that no exception tells.

These are numbers that a run would take as they are: derivatives that a function loses on its way,
parameters of its own that nobody trains, points that it couples, a distance that is not positive.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import coordinates_of_order
from hpctrain.linalg.arrays import CPU
from hpctrain.problems.equations.ansatz import Ansatz, jets, no_derivative
from hpctrain.problems.equations.checks.guard import named_place
from hpctrain.problems.equations.checks.trainable import trainable_in
from hpctrain.problems.equations.points import hammersley_points
from hpctrain.problems.equations.system import PDE, ProblemError

# Points for the functions and their derivatives, and for the sign of the distance.
_POINTS, _INNER_POINTS = 64, 1000
# Values at the same points may differ by this many units of rounding of the largest one: torch has
# other instructions for the last points of an array.
_ROUNDING = 1e4
# A derivative is wrong where it differs by this part from the differences.
_WRONG = 0.01

Function = Callable[[Tensor], Tensor]


def probe(pde: PDE, dtype: torch.dtype = torch.float64, device: torch.device = CPU) -> None:
    """Refuses an equation whose training would go wrong without a word.

    Args:
        pde: guarded (`guard.guard`).
        dtype, device: of the residual in the run; lifting and distance are float64 on the CPU.

    Raises:
        ProblemError: a function fails, couples points, has derivatives that are not its own, or
            depends on a parameter; the distance is not positive; the residual is nowhere finite.
    """
    points = hammersley_points(pde.domain, _POINTS)
    for function in (pde.lifting, pde.distance):
        _probe_function_of_points(function, pde, points)
    _check_positive(pde)
    _probe_residual(pde, points, dtype, device)


def check_pointwise(
    function: Callable[[Tensor], Any], points: Tensor, values: Tensor, step: int = 2
) -> None:
    """Refuses a function that gives other values (N,) where it is called with fewer points.

    Args:
        function: takes points (d, N).
        points, values: of an earlier call.
        step: between the points that are evaluated again.
    """
    part = slice(1, None, step)
    if len(values[part]):
        _check_equal(function, values[part], function(points[:, part].contiguous()))


def _check_equal(function: Callable[..., Tensor], values: Tensor, again: Tensor) -> None:
    values, again = values.detach(), again.detach()
    scale = float(values.abs().nan_to_num(0, 0).max())
    tolerance = _ROUNDING * torch.finfo(values.dtype).eps * scale
    if not torch.allclose(values, again.to(values), rtol=0, atol=tolerance, equal_nan=True):
        raise ProblemError(
            f"{named_place(function)} gave other values when it was called with a part of the"
            " points: it must act on each point for itself, and not draw random numbers"
        )


def _probe_function_of_points(function: Function, pde: PDE, points: Tensor) -> None:
    leaf = points.clone().requires_grad_()
    value = function(leaf)
    check_untrainable(pde, function, value, leaf)
    check_pointwise(function, points, value)
    along = coordinates_of_order(pde.orders, 1)
    found = jets(function, points, pde.orders)[1 : 1 + len(along)]
    derivatives = dict(zip(along, found, strict=True))
    _check_derivatives(function, function, points, derivatives, pde.coordinates)


def _probe_residual(pde: PDE, points: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    network = jets(_stand_in, points, pde.orders)
    ansatz = Ansatz(pde, points)
    lifted = ansatz.apply(torch.zeros_like(network)).to(device, dtype)
    leaf = ansatz.apply(network).to(device, dtype).requires_grad_()
    points = points.to(device, dtype)

    def residual(components: Tensor) -> Tensor:
        return pde.residual(points, pde.jet(components))

    r = residual(leaf)
    check_untrainable(pde, pde.residual, r, leaf)
    with torch.no_grad():
        at_lifting = residual(lifted)
        part = (each[:, 1::2].contiguous() for each in (points, leaf))
        again = pde.residual(next(part), pde.jet(next(part)))
    _check_equal(pde.residual, r[1::2], again)
    if not bool((r.isfinite() | at_lifting.isfinite()).any()):
        raise ProblemError(
            f"{named_place(pde.residual)} is not finite at any of {points.shape[1]} points"
        )
    _check_gradient(pde, residual, r, leaf)


def _check_gradient(pde: PDE, residual: Function, r: Tensor, leaf: Tensor) -> None:
    """Refuses a residual whose gradient with respect to the jet of u is lost, or a part of it."""
    gradient = None
    if r.requires_grad:
        try:
            (gradient,) = torch.autograd.grad(r.sum(), leaf, allow_unused=True)
        except Exception as error:
            raise no_derivative(pde.residual, error) from error
    found = torch.zeros_like(leaf) if gradient is None else gradient
    with torch.no_grad():
        names = [f"u.{field}" for field in pde.jet(found)._fields]
        _check_derivatives(pde.residual, residual, leaf.detach(), dict(enumerate(found)), names)
    if gradient is None:
        raise ProblemError(
            f"{named_place(pde.residual)} does not depend on u by way of torch operations that"
            " have derivatives: its gradient would be zero"
        )


def _stand_in(points: Tensor) -> Tensor:
    """In the place of a network: smooth, of size 1, with derivatives along every coordinate."""
    return torch.sin(1 + points.sum(dim=0)) * torch.cos(points.prod(dim=0) / 3)


def check_untrainable(pde: PDE, function: Callable[..., Any], value: Tensor, leaf: Tensor) -> None:
    """Refuses what depends on a tensor that requires gradients other than `leaf`."""
    named = trainable_in(pde, function, value, leaf)
    if named is not None:
        raise ProblemError(
            f"{named_place(function)} depends on {named}, which requires gradients: an equation"
            " cannot have parameters to be trained, make it a number"
        )


def _check_derivatives(
    function: Callable[..., Tensor],
    evaluate: Function,
    x: Tensor,
    found: dict[int, Tensor],
    names: Sequence[str],
) -> None:
    """Refuses derivatives that differ from central differences at most of the points.

    Args:
        function: the user's, which is named.
        evaluate: takes x (K, N), gives values (N,), each of its own column.
        x: where.
        found: the derivatives (N,) along rows of x.
        names: of the rows.
    """
    eps = torch.finfo(x.dtype).eps
    for row, derivative in found.items():
        h = eps ** (1 / 3) * (float(x[row].abs().max()) or 1.0)
        step = torch.zeros_like(x)
        step[row] = h
        ahead, behind = evaluate(x + step), evaluate(x - step)
        difference = (ahead - behind) / (2 * h)
        rounding = 100 * eps * float(ahead.abs().nan_to_num(0, 0).max()) / h
        allowed = _WRONG * torch.maximum(difference.abs(), derivative.abs()) + rounding
        wrong = (difference - derivative).abs() > allowed
        if int(wrong.sum()) > x.shape[1] // 2:
            raise ProblemError(
                f"{named_place(function)} loses its derivative with respect to {names[row]}: torch"
                f" finds {float(derivative[wrong][0]):.3g} where differences give"
                f" {float(difference[wrong][0]):.3g}; it must be made of torch operations, without"
                " detach() or numpy"
            )


def _check_positive(pde: PDE) -> None:
    points = hammersley_points(pde.domain, _INNER_POINTS)
    values = pde.distance(points)
    bad = ~(values > 0)
    if bool(bad.any()):
        raise ProblemError(
            f"{named_place(pde.distance)} is {float(values[bad][0]):.3g} at"
            f" {pde.named_point(points[:, bad][:, 0])}: it must be positive inside the domain"
        )
