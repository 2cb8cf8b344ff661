"""Jets in torch: the native kernel's mathematics, its reference, and what runs without a compiler.

Every chunk has a copy of θ of its own, so that autograd gives the gradient by chunk.
"""

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetEvaluator, coordinates_of_order
from hpctrain.networks.dense import DenseLayer, DenseNetwork


class TorchJets(JetEvaluator):
    """See `JetEvaluator`; activations are (C, units, components, points of the longest chunk)."""

    def __init__(
        self, network: DenseNetwork, orders: tuple[int, ...], points: Tensor, bounds: list[int]
    ) -> None:
        super().__init__(network, orders, bounds)
        self._points = points
        starts, stops = (torch.tensor(b, device=points.device) for b in (bounds[:-1], bounds[1:]))
        longest = int((stops - starts).max())
        # Shorter chunks repeat their last point, whose adjoint is then zero.
        places = starts[:, None] + torch.arange(longest, device=points.device)
        self._inside = places < stops[:, None]
        self._places = torch.minimum(places, stops[:, None] - 1).clamp(min=0)
        self._input = self._input_jets(points)
        self._kept: tuple[Tensor, Tensor] | None = None

    def rebound(self, bounds: list[int]) -> "TorchJets":
        return TorchJets(self.network, self.orders, self._points, bounds)

    def _input_jets(self, points: Tensor) -> Tensor:
        chunks, longest = self._places.shape
        y = points.new_zeros(chunks, len(self.orders), self.components, longest)
        y[:, :, 0] = points[:, self._places].transpose(0, 1)
        for component, coordinate in enumerate(coordinates_of_order(self.orders, 1), start=1):
            y[:, coordinate, component] = 1
        return y

    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        by_chunk = theta.detach().expand(self.chunks, -1).clone().requires_grad_(keep)
        y = self._input if activations is None else activations
        with torch.set_grad_enabled(keep):
            for layer in self.network.layers[first:-1]:
                y = self._hidden(layer, by_chunk, y)
            jets = self._linear(self.network.layers[-1], by_chunk, y)
        if keep:
            self._kept = (by_chunk, jets)
        return self._by_point(jets.detach())

    def prefix(self, theta: Tensor, layer: int) -> Tensor:
        y = self._input
        for below in self.network.layers[:layer]:
            y = self._hidden(below, theta.detach().expand(self.chunks, -1), y)
        return y

    def reverse(
        self,
        theta: Tensor,
        adjoint: Tensor,
        *,
        first: int = 0,
        last: int | None = None,
        activations: Tensor | None = None,
    ) -> Tensor:
        if self._kept is None:
            raise RuntimeError("reverse needs a kept forward evaluation")
        by_chunk, jets = self._kept
        seed = adjoint[:, :, self._places] * self._inside
        (gradient,) = torch.autograd.grad(
            jets, by_chunk, seed.permute(2, 1, 0, 3), retain_graph=True
        )
        layers = self.network.layers
        return gradient[:, layers[first].start : layers[-1 if last is None else last].stop]

    def _linear(self, layer: DenseLayer, theta: Tensor, y: Tensor) -> Tensor:
        chunks, inputs, components, longest = y.shape
        z = torch.bmm(layer.weight(theta), y.reshape(chunks, inputs, components * longest))
        z = z.reshape(chunks, layer.outputs, components, longest)
        value = z[:, :, :1] + layer.bias(theta)[:, :, None, None]
        z = torch.cat([value, z[:, :, 1:]], dim=2)
        if layer.scale_index is None:
            return z
        return 10 * theta[:, layer.scale_index, None, None, None] * z

    def _hidden(self, layer: DenseLayer, theta: Tensor, y: Tensor) -> Tensor:
        w = self._linear(layer, theta, y)
        h = torch.tanh(w[:, :, 0])
        s1 = 1 - h * h
        first = coordinates_of_order(self.orders, 1)
        components = [h, *(s1 * w[:, :, 1 + j] for j in range(len(first)))]
        for j, coordinate in enumerate(coordinates_of_order(self.orders, 2), start=1 + len(first)):
            w_j = w[:, :, 1 + first.index(coordinate)]
            components.append(s1 * (w[:, :, j] - 2 * h * w_j * w_j))
        update = torch.stack(components, dim=2)
        return y + self.network.time_step * update if layer.residual else update

    def _by_point(self, jets: Tensor) -> Tensor:
        """(C, outputs, components, longest) → (components, outputs, N), without the padding."""
        return jets.permute(2, 1, 0, 3)[:, :, self._inside]
