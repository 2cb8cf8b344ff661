"""Jets by the compiled kernel (native/jets.cpp): tiles of points in cache, OpenMP over chunks."""

import torch
from torch import Tensor

from hpctrain import _kernels
from hpctrain.kernels.jets import JetEvaluator
from hpctrain.kernels.program import Program
from hpctrain.networks.dense import DenseNetwork

_KERNELS = {torch.float64: _kernels.JetKernelDouble, torch.float32: _kernels.JetKernelFloat}
_RESIDUALS = {
    torch.float64: _kernels.PointwiseResidualDouble,
    torch.float32: _kernels.PointwiseResidualFloat,
}


class NativeJets(JetEvaluator):
    """See `JetEvaluator`; `threads` share the chunks, which does not change the results."""

    def __init__(
        self,
        network: DenseNetwork,
        orders: tuple[int, ...],
        points: Tensor,
        bounds: list[int],
        threads: int = 1,
    ) -> None:
        super().__init__(network, orders, bounds)
        layers = [
            (
                layer.inputs,
                layer.outputs,
                layer.start,
                layer.bias_start,
                -1 if layer.scale_index is None else layer.scale_index,
                layer.residual,
            )
            for layer in network.layers
        ]
        self.dtype = points.dtype
        self._points, self._threads = points, threads
        self.kernel = _KERNELS[points.dtype](
            layers, list(orders), network.time_step, _buffer(points), bounds, threads
        )

    def rebound(self, bounds: list[int]) -> "NativeJets":
        return NativeJets(self.network, self.orders, self._points, bounds, self._threads)

    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        jets = torch.empty(
            self.components, self.network.outputs, self.points, dtype=self.dtype, device="cpu"
        )
        self.kernel.forward(_buffer(theta), first, _optional(activations), keep, jets.numpy())
        return jets

    def prefix(self, theta: Tensor, layer: int) -> Tensor:
        activations = torch.empty(
            self.kernel.activation_size(layer), dtype=self.dtype, device="cpu"
        )
        self.kernel.prefix(_buffer(theta), layer, activations.numpy())
        return activations

    def reverse(
        self,
        theta: Tensor,
        adjoint: Tensor,
        *,
        first: int = 0,
        last: int | None = None,
        activations: Tensor | None = None,
    ) -> Tensor:
        last = self.network.depth - 1 if last is None else last
        size = self.kernel.parameter_count(first, last)
        leaves = torch.empty(self.chunks, size, dtype=self.dtype, device="cpu")
        self.kernel.reverse(
            _buffer(theta), first, last, _optional(activations), _buffer(adjoint), leaves.numpy()
        )
        return leaves


class FusedResidual:
    """See `residual.ResidualLoss`: the kernel evaluates jets, residual and gradient by tiles."""

    untraced: str | None = None

    def __init__(self, evaluator: NativeJets, program: Program, dtype: torch.dtype) -> None:
        self._jets = evaluator
        self._program = program
        arrays = program.arrays.to(dtype).contiguous()
        self._residual = _RESIDUALS[dtype](program.instructions, arrays.numpy())

    def losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        sums = torch.empty(self._jets.chunks, dtype=self._jets.dtype, device="cpu")
        self._jets.kernel.losses(
            _buffer(theta), first, _optional(activations), self._residual, sums.numpy()
        )
        return sums

    def losses_and_gradients(
        self, theta: Tensor, first: int, last: int, activations: Tensor | None
    ) -> Tensor:
        kernel = self._jets.kernel
        size = 1 + kernel.parameter_count(first, last)
        leaves = torch.empty(self._jets.chunks, size, dtype=self._jets.dtype, device="cpu")
        kernel.losses_and_gradients(
            _buffer(theta), first, last, _optional(activations), self._residual, leaves.numpy()
        )
        return leaves

    def residuals(self, theta: Tensor) -> Tensor:
        r = torch.empty(self._jets.points, dtype=self._jets.dtype, device="cpu")
        self._jets.kernel.residuals(_buffer(theta), self._residual, r.numpy())
        return r

    def regrouped(self, bounds: list[int]) -> "FusedResidual":
        return FusedResidual(self._jets.rebound(bounds), self._program, self._jets.dtype)

    def weighted_gradients(self, theta: Tensor, weights: Tensor) -> Tensor:
        leaves = torch.empty(self._jets.chunks, len(theta), dtype=self._jets.dtype, device="cpu")
        self._jets.kernel.weighted_gradients(
            _buffer(theta), self._residual, _buffer(weights), leaves.numpy()
        )
        return leaves

    def jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        count = self._jets.bounds[last] - self._jets.bounds[first]
        rows = torch.empty(count, 1 + len(theta), dtype=self._jets.dtype, device="cpu")
        self._jets.kernel.jacobian(_buffer(theta), self._residual, first, last, rows.numpy())
        return rows


def _buffer(tensor: Tensor):
    return tensor.detach().contiguous().numpy()


def _optional(tensor: Tensor | None):
    return None if tensor is None else tensor.numpy()
