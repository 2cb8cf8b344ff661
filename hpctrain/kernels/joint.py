"""Jets of networks beside each other, each evaluated by an evaluator of its own."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetEvaluator
from hpctrain.networks.joint import JointNetwork


class JointJets(JetEvaluator):
    """Evaluates the jets of one network after the other; see `JetEvaluator`.

    What enters a layer, `activations`, is a tuple with what enters that of each network.

    Args:
        network: the networks.
        parts: the evaluator of each of them, at the same points in the same chunks.
    """

    def __init__(self, network: JointNetwork, parts: Sequence[JetEvaluator]) -> None:
        super().__init__(network, parts[0].shape, parts[0].bounds)
        self._joint, self._parts = network, tuple(parts)

    def recut(self, bounds: list[int]) -> "JointJets":
        return JointJets(self._joint, [part.recut(bounds) for part in self._parts])

    def separate(self) -> "JointJets":
        return JointJets(self._joint, [part.separate() for part in self._parts])

    def select(self, places: Tensor, bounds: list[int]) -> "JointJets":
        return JointJets(self._joint, [part.select(places, bounds) for part in self._parts])

    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Any = None
    ) -> Tensor:
        pairs = zip(self._parts, self._divide(activations), strict=True)
        jets = [part.forward(theta, keep=keep, first=first, activations=own) for part, own in pairs]
        return torch.cat(jets, dim=1)

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Any:
        return tuple(part.evaluate_prefix(theta, layer) for part in self._parts)

    def reverse(
        self,
        theta: Tensor,
        adjoint: Tensor,
        *,
        first: int = 0,
        last: int | None = None,
        activations: Any = None,
    ) -> Tensor:
        networks, layers = self._joint.parts, self._joint.layers
        last = len(layers) - 1 if last is None else last
        start, stop = layers[first].start, layers[last].stop
        gradient = adjoint.new_empty(self.chunks, stop - start)
        ends = list(accumulate(network.outputs for network in networks))
        each = zip(networks, self._parts, self._divide(activations), ends, strict=True)
        for network, part, entering, end in each:
            its = adjoint[:, end - network.outputs : end]
            own = network.layers[first : last + 1]
            found = part.reverse(theta, its, first=first, last=last, activations=entering)
            pieces = found.split([layer.stop - layer.start for layer in own], dim=1)
            for layer, piece in zip(own, pieces, strict=True):
                gradient[:, layer.start - start : layer.stop - start] = piece
        return gradient

    def differentiate_along(self, theta: Tensor, v: Tensor) -> Tensor:
        return torch.cat([part.differentiate_along(theta, v) for part in self._parts], dim=1)

    def _divide(self, activations: Any) -> Sequence[Any]:
        """What enters the layer of each network."""
        return [None] * len(self._parts) if activations is None else activations
