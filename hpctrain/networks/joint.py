"""Dense networks beside each other that share one parameter vector.

θ has layer after layer, and in each the layers of the networks in turn: by its layers it is cut as
that of a single network is. Of k networks of width w a layer costs k w² multiply-adds, where one
network of width k w takes k² w².
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from hpctrain.networks.dense import DenseNetwork


@dataclass(frozen=True)
class JointLayer:
    """The layers of all networks at one depth, with the parameters θ[start:stop].

    Attributes:
        outputs: of all of them.
        cost: multiply-adds for one point.
        tensors: the sizes of their matrices, biases and scales, in the order of θ.
    """

    start: int
    stop: int
    outputs: int
    cost: int
    tensors: tuple[int, ...]


@dataclass(frozen=True)
class JointNetwork:
    """Networks of one depth, whose outputs stand one after the other; see `join`.

    Attributes:
        parts: the networks, as parts of one θ.
    """

    parts: tuple[DenseNetwork, ...]

    @classmethod
    def join(cls, networks: Sequence[DenseNetwork]) -> "JointNetwork":
        """Gives the layers of networks of one depth their places in one θ."""
        starts: list[list[int]] = [[] for _ in networks]
        end = 0
        for layers in zip(*(network.layers for network in networks), strict=True):
            for own, layer in zip(starts, layers, strict=True):
                own.append(end)
                end += layer.stop - layer.start
        pairs = zip(networks, starts, strict=True)
        return cls(tuple(replace(network, starts=tuple(own)) for network, own in pairs))

    def select(self, numbers: Sequence[int]) -> "JointNetwork":
        """Some of the networks, with a θ of their own: the entries of `find_entries`."""
        return JointNetwork.join([self.parts[k] for k in numbers])

    def find_entries(
        self, numbers: Sequence[int], first: int = 0, last: int | None = None
    ) -> Tensor:
        """Where the parameters of some networks are in θ, layer after layer; on the CPU.

        Args:
            first, last: the layers; all by default.
        """
        last = self.depth - 1 if last is None else last
        runs = [
            torch.arange(layer.start, layer.stop, device="cpu")
            for depth in range(first, last + 1)
            for layer in (self.parts[k].layers[depth] for k in numbers)
        ]
        return torch.cat(runs)

    @cached_property
    def layers(self) -> tuple[JointLayer, ...]:
        """The layers from input to output."""
        by_depth = zip(*(part.layers for part in self.parts), strict=True)
        return tuple(
            JointLayer(
                start=layers[0].start,
                stop=layers[-1].stop,
                outputs=sum(each.outputs for each in layers),
                cost=sum(each.cost for each in layers),
                tensors=tuple(size for each in layers for size in each.tensors),
            )
            for layers in by_depth
        )

    @property
    def depth(self) -> int:
        """The number of linear maps, one after the other."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """Units of the widest hidden layer of a single network."""
        return max(part.width for part in self.parts)

    @property
    def outputs(self) -> int:
        """The number of outputs of all networks."""
        return self.layers[-1].outputs

    @property
    def parameters(self) -> int:
        """n, the length of θ."""
        return self.layers[-1].stop

    def make_initial_parameters(self, seed: int) -> Tensor:
        """Draws θ₀ (n,), float64, each network's as `DenseNetwork` does, all by other numbers."""
        theta = torch.zeros(self.parameters, dtype=torch.float64, device="cpu")
        for number, part in enumerate(self.parts):
            theta[: part.parameters] += part.make_initial_parameters(seed, number)
        return theta

    def __call__(self, theta: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        """Evaluates the networks (outputs, N) at the inputs (p, N) of each, in plain torch."""
        pairs = zip(self.parts, inputs, strict=True)
        return torch.cat([part(theta, own) for part, own in pairs])
