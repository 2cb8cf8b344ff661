"""Jets evaluated in torch: the reference for the compiled kernels, and what runs where none are.

Chunks are cut into tiles of as many points, the last one filled up: what torch and its libraries
round depends on the shape of an array, and must not depend on which chunks a rank has. Every tile
has a copy of θ of its own, so that autograd returns its gradient; those of a chunk are then summed.
"""

import math
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetEvaluator, JetShape, Product, make_input_jets
from hpctrain.linalg.arrays import sum_chunks
from hpctrain.networks.dense import DenseLayer, DenseNetwork

# Points of a tile: a multiple of what torch's vector loops take at once in either precision.
TILE = 32


class TorchJets(JetEvaluator):
    """Evaluates jets in torch; see `JetEvaluator`.

    Activations have the shape (T, units, components, points of a tile) for T tiles.

    Args:
        network, shape, bounds: as for `JetEvaluator`.
        points: coordinates (d, N).
        inputs: the jets (components, p, N) of the network's inputs; by default those of the
            coordinates.
        tile: points of a tile.
    """

    def __init__(
        self,
        network: DenseNetwork,
        shape: JetShape,
        points: Tensor,
        bounds: list[int],
        inputs: Tensor | None = None,
        tile: int = TILE,
    ) -> None:
        super().__init__(network, shape, bounds)
        self._network, self._tile = network, tile
        self._inputs = make_input_jets(shape, points) if inputs is None else inputs
        tiles = [range(first, last, tile) for first, last in pairwise(bounds)]
        self._tile_bounds = [0, *accumulate(len(each) for each in tiles)]
        lists = [*chain(*tiles)], [each.stop for each in tiles for _ in each]
        starts, stops = (torch.tensor(b, dtype=torch.long, device=points.device) for b in lists)
        # A tile that is not full repeats its last point, whose adjoint is then zero.
        places = starts[:, None] + torch.arange(tile, device=points.device)
        self._inside = places < stops[:, None]
        self._places = torch.minimum(places, stops[:, None] - 1)
        self._input = self._inputs[:, :, self._places].permute(2, 1, 0, 3)
        self._kept: tuple[Tensor, Tensor] | None = None

    def recut(self, bounds: list[int]) -> "TorchJets":
        return self._cut(bounds, TILE)

    def separate(self) -> "TorchJets":
        return self._cut(list(range(self.points + 1)), 1)

    def _cut(self, bounds: list[int], tile: int) -> "TorchJets":
        points = self._inputs[0]
        return TorchJets(self._network, self.shape, points, bounds, self._inputs, tile)

    def select(self, places: Tensor, bounds: list[int]) -> "TorchJets":
        inputs = self._inputs[..., places.to(self._inputs.device)]
        return TorchJets(self._network, self.shape, inputs[0], bounds, inputs)

    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        by_tile = self._copy(theta.detach()).clone().requires_grad_(keep)
        y = self._input if activations is None else activations
        with torch.set_grad_enabled(keep):
            jets = self._evaluate_jets(by_tile, y, first)
        if keep:
            self._kept = (by_tile, jets)
        return self._order_by_point(jets.detach())

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        y = self._input
        for below in self._network.layers[:layer]:
            y = self._hidden(below, self._copy(theta.detach()), y)
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
        by_tile, jets = self._kept
        seed = adjoint[:, :, self._places] * self._inside
        (gradient,) = torch.autograd.grad(
            jets, by_tile, seed.permute(2, 1, 0, 3), retain_graph=True
        )
        last = len(self._network.layers) - 1 if last is None else last
        own = self._network.layers[first : last + 1]
        gradients = torch.cat([gradient[:, layer.start : layer.stop] for layer in own], dim=1)
        return sum_chunks(gradients.T, self._tile_bounds).T

    def differentiate_along(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes the derivative along v, by differentiating twice.

        The gradient g(u) of Σ u · jets by θ is linear in u, so that the derivative of g(u)·v by u
        is the derivative of the jets along v.
        """
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            jets = self._evaluate_jets(self._copy(theta), self._input, 0)
            u = torch.zeros_like(jets, requires_grad=True)
            (pulled_back,) = torch.autograd.grad(jets, theta, u, create_graph=True)
        (tangent,) = torch.autograd.grad(pulled_back, u, v)
        return self._order_by_point(tangent)

    def _copy(self, theta: Tensor) -> Tensor:
        """Returns θ for each tile, (T, n)."""
        return theta.expand(len(self._places), -1)

    def _evaluate_jets(self, theta: Tensor, y: Tensor, first: int) -> Tensor:
        """Evaluates the jets (T, outputs, components, points) that leave the network.

        Args:
            theta: θ of each tile, (T, n).
            y: the jets that enter layer `first`.
        """
        for layer in self._network.layers[first:-1]:
            y = self._hidden(layer, theta, y)
        return self._linear(self._network.layers[-1], theta, y)

    def _linear(self, layer: DenseLayer, theta: Tensor, y: Tensor) -> Tensor:
        y = y[:, -layer.inputs :]
        z = torch.bmm(layer.weight(theta), y.flatten(2)).unflatten(2, (-1, self._tile))
        value = z[:, :, :1] + layer.bias(theta)[:, :, None, None]
        z = torch.cat([value, z[:, :, 1:]], dim=2)
        if layer.scale_index is None:
            return z
        return 10 * theta[:, layer.scale_index, None, None, None] * z

    def _hidden(self, layer: DenseLayer, theta: Tensor, y: Tensor) -> Tensor:
        w = self._linear(layer, theta, y).unbind(dim=2)
        slopes = differentiate_activation(self._network.activation, w[0], self.shape.order)
        update = torch.stack(compose_jets(self.shape, slopes, w), dim=2)
        if layer.gated:
            U, V, _ = y.chunk(3, dim=1)
            return torch.cat([U, V, U + self._multiply(update, V - U)], dim=1)
        return y + self._network.time_step * update if layer.residual else update

    def _multiply(self, y: Tensor, z: Tensor) -> Tensor:
        """Computes the jets of the product of two functions by Leibniz' rule."""
        rows = [
            reduce(torch.add, [count * y[:, :, a] * z[:, :, b] for count, a, b in pairs])
            for pairs in self.shape.pairs
        ]
        return torch.stack(rows, dim=2)

    def _order_by_point(self, jets: Tensor) -> Tensor:
        """Turns (T, outputs, components, points) into (components, outputs, N), unpadded."""
        return jets.permute(2, 1, 0, 3)[:, :, self._inside]


def differentiate_activation(activation: str, w: Tensor, highest: int) -> list[Tensor]:
    """Computes f(w), f'(w), … f^(highest)(w) for f = tanh or sin.

    For h = tanh w, h' = 1 - h² and h^(n+1) = -Σ_k binomial(n, k) h^(k) h^(n-k) for n ≥ 1.

    Args:
        activation: "tanh" or "sin".
        w: of any shape.
        highest: the highest order.
    """
    if activation == "sin":
        cycle = [torch.sin(w), torch.cos(w)]
        cycle += [-cycle[0], -cycle[1]]
        return [cycle[k % 4] for k in range(highest + 1)]
    h = torch.tanh(w)
    found = [h, 1 - h * h]
    for n in range(1, highest):
        terms = (math.comb(n, k) * found[k] * found[n - k] for k in range(n + 1))
        found.append(-sum(terms, torch.zeros_like(h)))
    return found[: highest + 1]


def compose_jets(shape: JetShape, slopes: Sequence[Tensor], w: Sequence[Tensor]) -> list[Tensor]:
    """Computes the components of y = f(w) by Faà di Bruno's formula (`shape`).

    Args:
        slopes: f(w), f'(w), … up to the shape's order.
        w: its components, of the same shapes.
    """
    derived = (_sum_products(each, slopes, w) for each in shape.products[1:])
    return [slopes[0], *derived]


def _sum_products(
    products: tuple[Product, ...], slopes: Sequence[Tensor], w: Sequence[Tensor]
) -> Tensor:
    """Computes one component of f(w) by its terms, Σ coefficient f^(k) Π w_c."""
    total = torch.zeros_like(w[0])
    for product in products:
        term = product.coefficient * slopes[len(product.factors)]
        for factor in product.factors:
            term = term * w[factor]
        total = total + term
    return total
