"""Sums of squared residuals over chunks of points, and their gradients.

`FusedResidual` runs a traced residual inside the jet kernel, tile by tile, so that nothing leaves
the cache between the jets, the residual and the reverse sweep. `TorchResidual` evaluates it in
torch between two sweeps over all points; it takes any residual, and any jets.
"""

from collections.abc import Callable
from functools import cached_property, partial, reduce
from operator import add, mul
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import torch
from torch import Tensor

from hpctrain.errors import UserCodeError
from hpctrain.kernels.jets import JetEvaluator
from hpctrain.kernels.pointwise import trace
from hpctrain.kernels.program import NotTraceableError
from hpctrain.linalg.arrays import chunk_sums
from hpctrain.user_code.faults import explain, place_of

if TYPE_CHECKING:
    from hpctrain.kernels.native import NativeJets

# Takes the jet of the network's output, its components (N,) in order; gives the residual (N,).
Residual = Callable[[Any], Any]


class ResidualLoss(Protocol):
    """Sums over the C chunks of an evaluator's points of the squared residual.

    `first`, `last` and `activations` choose layers as in `JetEvaluator`.

    Attributes:
        untraced: what of the residual has no instruction, so that it stays in torch although the
            native kernels are there; None where nothing is left to name.
    """

    untraced: str | None

    def losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        """The sums (C,)."""

    def losses_and_gradients(
        self, theta: Tensor, first: int, last: int, activations: Tensor | None
    ) -> Tensor:
        """(C, 1 + m): the sums, then their gradients with respect to layers first … last."""

    def residuals(self, theta: Tensor) -> Tensor:
        """r (N,) at all points."""

    def regrouped(self, bounds: list[int]) -> "ResidualLoss":
        """The same at the same points, cut into other chunks."""

    def weighted_gradients(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Σ_j w_j ∂r_j/∂θ over each chunk, (C, n), for weights w (N,)."""

    def jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        """[r ∂r/∂θ] (k, 1 + n), a row for each of the k points of chunks first … last - 1."""


def residual_loss(evaluator: JetEvaluator, residual: Residual, dtype: torch.dtype) -> ResidualLoss:
    """The fastest loss that the evaluator and the residual allow."""
    if not is_native(evaluator):
        return TorchResidual(evaluator, residual)
    from hpctrain.kernels.native import FusedResidual

    try:
        program = trace(residual, evaluator.components, evaluator.points, dtype)
    except NotTraceableError as error:
        return TorchResidual(evaluator, residual, error.operation)
    return FusedResidual(evaluator, program, dtype)


def is_native(evaluator: JetEvaluator) -> TypeGuard["NativeJets"]:
    """Whether a residual can be evaluated inside the native jet kernel."""
    from hpctrain.kernels import native_available

    if not native_available():
        return False
    from hpctrain.kernels.native import NativeJets

    return isinstance(evaluator, NativeJets) and evaluator.network.outputs == 1


def _weighted_sum(weights: Tensor, jet: Any) -> Any:
    return reduce(add, map(mul, weights, jet))


class TorchResidual:
    """See the module; the residual may use all of torch, point by point."""

    def __init__(
        self, evaluator: JetEvaluator, residual: Residual, untraced: str | None = None
    ) -> None:
        self._jets = evaluator
        self._residual = residual
        self.untraced = untraced
        self._kept: tuple[Tensor, Tensor, ResidualLoss] | None = None

    def losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        jets = self._jets.forward(theta, keep=False, first=first, activations=activations)
        with torch.no_grad():
            return self._sums(self._residual(jets[:, 0]).square())

    def losses_and_gradients(
        self, theta: Tensor, first: int, last: int, activations: Tensor | None
    ) -> Tensor:
        jets = self._jets.forward(theta, keep=True, first=first, activations=activations)
        r, adjoint = self._pull_back(jets, lambda r: 2 * r)
        gradients = self._jets.reverse(
            theta, adjoint, first=first, last=last, activations=activations
        )
        return torch.cat([self._sums(r.square())[:, None], gradients], dim=1)

    def residuals(self, theta: Tensor) -> Tensor:
        with torch.no_grad():
            return self._residual(self._jets.forward(theta, keep=False)[:, 0])

    def regrouped(self, bounds: list[int]) -> "TorchResidual":
        return TorchResidual(self._jets.rebound(bounds), self._residual, self.untraced)

    def weighted_gradients(self, theta: Tensor, weights: Tensor) -> Tensor:
        _, adjoint = self._pull_back(self._jets.forward(theta, keep=True), lambda _: weights)
        return self._jets.reverse(theta, adjoint)

    def jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        rows = slice(self._jets.bounds[first], self._jets.bounds[last])
        if is_native(self._jets):
            r, linear = self._linearised(theta)
            J = linear.jacobian(theta, first, last)
            J[:, 0] = r[rows]
            return J
        r, adjoint = self._pull_back(self._single.forward(theta, keep=True), torch.ones_like)
        J = self._single.reverse(theta, adjoint)
        return torch.cat([r[rows, None], J[rows]], dim=1)

    def _linearised(self, theta: Tensor) -> tuple[Tensor, ResidualLoss]:
        """r (N,) at θ, and its linear part in the jets there, which traces: Σ_c ∂r/∂u_c u_c."""
        if self._kept is None or not torch.equal(self._kept[0], theta):
            r, adjoint = self._pull_back(self._jets.forward(theta, keep=False), torch.ones_like)
            weights = adjoint[:, 0]
            linear = residual_loss(self._jets, partial(_weighted_sum, weights), weights.dtype)
            self._kept = (theta.clone(), r, linear)
        return self._kept[1:]

    def _pull_back(
        self, jets: Tensor, weights: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """r (N,) of the network's jets, and the adjoint of the jets for weights w(r) (N,) on r.

        Raises:
            UserCodeError: torch cannot differentiate the residual here.
        """
        network = jets[:, 0].requires_grad_()
        with torch.enable_grad():
            r = self._residual(network)
        try:
            (adjoint,) = torch.autograd.grad(r, network, weights(r.detach()))
        except (Exception, SystemExit) as error:
            where = explain(error, place_of(self._residual))
            raise UserCodeError(f"the derivative of the residual fails: {where}") from error
        return r.detach(), adjoint[:, None]

    @cached_property
    def _single(self) -> JetEvaluator:
        """The same points as chunks of one, whose gradients are the Jacobian's rows."""
        return self._jets.rebound(list(range(self._jets.points + 1)))

    def _sums(self, squares: Tensor) -> Tensor:
        return chunk_sums(squares, self._jets.bounds)
