"""Jets by the compiled kernel (native/jets.cpp): tiles of points in cache, OpenMP over chunks."""

import torch
from torch import Tensor

from hpctrain import _kernels
from hpctrain.kernels.jets import JetEvaluator
from hpctrain.networks.dense import DenseNetwork

_KERNELS = {torch.float64: _kernels.JetKernelDouble, torch.float32: _kernels.JetKernelFloat}


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
        self._dtype = points.dtype
        self._kernel = _KERNELS[points.dtype](
            layers, list(orders), network.time_step, _buffer(points), bounds, threads
        )

    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        jets = torch.empty(self.components, self.network.outputs, self.points, dtype=self._dtype)
        self._kernel.forward(_buffer(theta), first, _optional(activations), keep, jets.numpy())
        return jets

    def prefix(self, theta: Tensor, layer: int) -> Tensor:
        activations = torch.empty(self._kernel.activation_size(layer), dtype=self._dtype)
        self._kernel.prefix(_buffer(theta), layer, activations.numpy())
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
        size = self._kernel.parameter_count(first, last)
        leaves = torch.empty(self.chunks, size, dtype=self._dtype)
        self._kernel.reverse(
            _buffer(theta), first, last, _optional(activations), _buffer(adjoint), leaves.numpy()
        )
        return leaves


def _buffer(tensor: Tensor):
    return tensor.detach().contiguous().numpy()


def _optional(tensor: Tensor | None):
    return None if tensor is None else tensor.numpy()
