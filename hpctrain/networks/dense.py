"""Dense networks of one parameter vector: plain, residual and gated, with tanh or sine.

    plain      y ← f(10 a (W y + b))
    residual   y ← y + dt f(10 a (W y + b)), behind a first layer y = f(W x + b)
    gated      y ← U + f(10 a (W y + b)) (V - U), behind a first layer (U, V, y) = f(10 a (W x + b))

The last layer is linear, and f = tanh or sin. An adaptive activation has a trainable scalar a for
each layer, which starts at 0.1. Without it 10 a is replaced by 1. The depth is the number of linear
maps, where the first layer of a gated network counts as one. Sources: Kopaničáková, Kothari,
Karniadakis, Krause, SISC 46(5), 2024; gated, the modified MLP of Wang, Teng, Perdikaris, SISC 43
(2021).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from hpctrain.linalg.arrays import to_tensor
from hpctrain.linalg.randomness import make_generator

INITIAL_ADAPTIVE_SCALE = 0.1


@dataclass(frozen=True)
class DenseLayer:
    """One linear map (outputs × inputs), with the parameters θ[start:stop] = (W by rows, b, a).

    Attributes:
        residual: whether its input is added to its values.
        gated: whether its values choose between U and V, which are inputs before y.
        parts: how many maps are stacked in it, such as those to U, V and y.
    """

    inputs: int
    outputs: int
    start: int
    adaptive: bool
    residual: bool
    gated: bool = False
    parts: int = 1

    @property
    def cost(self) -> int:
        """Multiply-adds for one point."""
        return self.inputs * self.outputs

    @property
    def bias_start(self) -> int:
        """Where b begins in θ."""
        return self.start + self.outputs * self.inputs

    @property
    def scale_index(self) -> int | None:
        """Where the adaptive scale a is in θ; None where there is none."""
        return self.bias_start + self.outputs if self.adaptive else None

    @property
    def tensors(self) -> tuple[int, ...]:
        """The sizes of W, b and, where there is one, a."""
        return (self.outputs * self.inputs, self.outputs, *[1] * self.adaptive)

    @property
    def stop(self) -> int:
        """One past the layer's last parameter in θ."""
        return self.bias_start + self.outputs + self.adaptive

    def weight(self, theta: Tensor) -> Tensor:
        """Returns W (…, outputs, inputs) out of θ (…, n)."""
        flat = theta[..., self.start : self.bias_start]
        return flat.reshape(*theta.shape[:-1], self.outputs, self.inputs)

    def bias(self, theta: Tensor) -> Tensor:
        """Returns b (…, outputs) out of θ (…, n)."""
        return theta[..., self.bias_start : self.bias_start + self.outputs]


@dataclass(frozen=True)
class DenseNetwork:
    """A network of `depth` linear maps, `inputs` → `width` → … → `width` → `outputs`.

    Attributes:
        starts: where the parameters of each layer begin in θ, if that of other networks stand
            between them; by default one layer follows the other.
    """

    inputs: int
    width: int
    depth: int
    outputs: int = 1
    residual: bool = False
    adaptive: bool = False
    time_step: float = 1.0
    activation: Literal["tanh", "sin"] = "tanh"
    gated: bool = False
    starts: tuple[int, ...] = ()

    @cached_property
    def layers(self) -> tuple[DenseLayer, ...]:
        """The layers from input to output."""
        sizes = [self.inputs, *[self.width] * (self.depth - 1), self.outputs]
        layers: list[DenseLayer] = []
        for index in range(self.depth):
            hidden = index < self.depth - 1
            skips = self.residual and hidden and index > 0
            parts = 3 if self.gated and index == 0 else 1
            layers.append(
                DenseLayer(
                    inputs=sizes[index],
                    outputs=parts * sizes[index + 1],
                    start=self._find_start(index, layers),
                    adaptive=self.adaptive and hidden and (skips or not self.residual),
                    residual=skips,
                    gated=self.gated and hidden and index > 0,
                    parts=parts,
                )
            )
        return tuple(layers)

    def _find_start(self, index: int, below: list[DenseLayer]) -> int:
        if self.starts:
            return self.starts[index]
        return below[-1].stop if below else 0

    @property
    def parameters(self) -> int:
        """n, the length of θ, up to this network's last parameter."""
        return self.layers[-1].stop

    def make_initial_parameters(self, seed: int, number: int = 0) -> Tensor:
        """Draws θ₀ (n,), float64: Xavier-uniform weights, biases 0, adaptive scales 0.1.

        A network without a hidden layer begins at zero: nothing in it has to be told apart.

        Args:
            seed: determines them.
            number: of the network among others of one run, which draw other weights.
        """
        further = (number,) if number else ()
        theta = torch.zeros(self.parameters, dtype=torch.float64, device="cpu")
        if self.depth == 1:
            return theta
        for index, layer in enumerate(self.layers):
            limit = math.sqrt(6 / (layer.inputs + layer.outputs // layer.parts))
            size = layer.outputs * layer.inputs
            generator = make_generator(seed, "weights", index, *further)
            weight = generator.uniform(-limit, limit, size)
            theta[layer.start : layer.bias_start] = to_tensor(weight)
            if layer.scale_index is not None:
                theta[layer.scale_index] = INITIAL_ADAPTIVE_SCALE
        return theta

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluates the network (outputs, N) at points x (inputs, N), in plain torch."""
        y = x
        for layer in self.layers[:-1]:
            z = layer.weight(theta) @ y[-layer.inputs :] + layer.bias(theta)[:, None]
            if layer.scale_index is not None:
                z = 10 * theta[layer.scale_index] * z
            update = torch.sin(z) if self.activation == "sin" else torch.tanh(z)
            if layer.gated:
                U, V, _ = y.chunk(3)
                y = torch.cat([U, V, U + update * (V - U)])
            else:
                y = y + self.time_step * update if layer.residual else update
        output = self.layers[-1]
        return output.weight(theta) @ y[-output.inputs :] + output.bias(theta)[:, None]
