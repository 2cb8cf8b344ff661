"""Dense networks over one flat parameter vector: plain, residual and gated, of tanh or sine.

    plain      y ← f(10 a (W y + b))
    residual   y ← y + dt f(10 a (W y + b)), behind a first layer y = f(W x + b)
    gated      y ← U + f(10 a (W y + b)) (V - U), behind a first layer (U, V, y) = f(10 a (W x + b))

with a linear output and f = tanh or sin. An adaptive activation has one trainable scalar a a layer,
0.1 at first; a plain one has 1 in place of 10 a. Depth counts all linear maps, the first of a gated
network as one. Sources: Kopaničáková, Kothari, Karniadakis, Krause, SISC 46(5), 2024; gated, the
modified MLP of Wang, Teng, Perdikaris, SISC 43 (2021).
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
    """One linear map (outputs × inputs); its parameters are θ[start:stop] = (W by rows, b, a).

    Attributes:
        residual: its values are added to what enters it.
        gated: its values choose between U and V, which enter it before y.
        parts: maps that it stacks, such as those to U, V and y.
    """

    inputs: int
    outputs: int
    start: int
    adaptive: bool
    residual: bool
    gated: bool = False
    parts: int = 1

    @property
    def bias_start(self) -> int:
        return self.start + self.outputs * self.inputs

    @property
    def scale_index(self) -> int | None:
        """Where the adaptive scale a stands in θ."""
        return self.bias_start + self.outputs if self.adaptive else None

    @property
    def stop(self) -> int:
        return self.bias_start + self.outputs + self.adaptive

    def weight(self, theta: Tensor) -> Tensor:
        """W (…, outputs, inputs) out of θ (…, n)."""
        flat = theta[..., self.start : self.bias_start]
        return flat.reshape(*theta.shape[:-1], self.outputs, self.inputs)

    def bias(self, theta: Tensor) -> Tensor:
        """b (…, outputs) out of θ (…, n)."""
        return theta[..., self.bias_start : self.bias_start + self.outputs]


@dataclass(frozen=True)
class DenseNetwork:
    """A network of `depth` linear maps, `inputs` → `width` → … → `width` → `outputs`."""

    inputs: int
    width: int
    depth: int
    outputs: int = 1
    residual: bool = False
    adaptive: bool = False
    time_step: float = 1.0
    activation: Literal["tanh", "sin"] = "tanh"
    gated: bool = False

    @cached_property
    def layers(self) -> tuple[DenseLayer, ...]:
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
                    start=layers[-1].stop if layers else 0,
                    adaptive=self.adaptive and hidden and (skips or not self.residual),
                    residual=skips,
                    gated=self.gated and hidden and index > 0,
                    parts=parts,
                )
            )
        return tuple(layers)

    @property
    def parameters(self) -> int:
        """n, the length of θ."""
        return self.layers[-1].stop

    def initial_parameters(self, seed: int) -> Tensor:
        """θ₀ (n,), float64: Xavier-uniform weights, zero biases, adaptive scales 0.1."""
        theta = torch.zeros(self.parameters, dtype=torch.float64, device="cpu")
        for index, layer in enumerate(self.layers):
            limit = math.sqrt(6 / (layer.inputs + layer.outputs // layer.parts))
            size = layer.outputs * layer.inputs
            weight = make_generator(seed, "weights", index).uniform(-limit, limit, size)
            theta[layer.start : layer.bias_start] = to_tensor(weight)
            if layer.scale_index is not None:
                theta[layer.scale_index] = INITIAL_ADAPTIVE_SCALE
        return theta

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """The values (outputs, N) at points x (inputs, N): the definition, in plain torch."""
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
